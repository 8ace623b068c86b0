"""Requests and their answers: which runs may start and on what, files, limits, Gradio's internals and the end of the server."""
