"""Run recipes on a machine: devices, scheduling, memory, estimates, previews, batches and videos."""
