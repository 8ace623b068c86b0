"""What the page says, apart from what the recipes' fields say for themselves."""

TITLE = "featviz"
TAGLINE = "See what a convolutional network sees."

READY, READY_WITHOUT = "Choose a picture, or click an example.", "Choose a channel, and see what it looks for."

PRIVACY = (
    "Your pictures stay on the server that runs this page, are used for nothing but your results, and are deleted with them "
    "within {hours} hours. Location and other metadata are removed before a picture is used. Into a result goes with which "
    "settings it was made, so that they can be restored from it, and nothing else."
)
