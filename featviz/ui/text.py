"""The texts of the page, beside those of the recipes' fields."""

TITLE = "featviz"
TAGLINE = "See what a convolutional network sees."

READY, READY_WITHOUT = "Choose a picture, or click an example.", "Choose a channel to see what it looks for."

PRIVACY = (
    "Your pictures stay on the server that runs this page. They are used only for your results. Pictures and results are "
    "deleted within {hours} hours. Location and other metadata are removed before a picture is used. A result contains the "
    "settings that made it, so that they can be restored from the file, and no other data."
)
