"""What the page says, apart from what the recipes' fields say for themselves."""

TITLE = "featviz"
TAGLINE = "See what a convolutional network sees."

RUN = {"deepdream": "Start dreaming", "deepdream_zoom": "Start the journey", "style_transfer": "Start painting"}

PAINT = {"deepdream": "dream", "deepdream_zoom": "dream", "style_transfer": "use the style"}
"""What is done where a visitor paints."""

TRY_OUT = {"deepdream": "Which layer? Show me", "style_transfer": "How strong, how large? Show me"}

TRIED_OUT = {
    "deepdream": "The same dream at every layer, from shallow to deep.",
    "style_transfer": "The same pair, small, with other strengths and brush sizes.",
}

HOW_IT_WORKS = {
    "deepdream": """
A network that was trained to name things in photographs has learnt what edges, fur and eyes look like.
DeepDream turns its hints up: **whatever a layer already detects in your picture, it gets more of.**

1. **Choose a picture and a layer.** The first layers of the network answer to edges and textures, the later ones to eyes,
   faces and whole animals.
2. **Look.** The picture goes through the network up to that layer. What comes out are its *activation maps*: one for each
   thing the layer looks for, bright where it found it.
3. **Ask for more of the same.** The layer's gradient is set equal to its activations, so that what it answered to most
   counts most.
4. **Find out how.** The gradient is followed back to the picture: it says for each pixel which change would make the layer
   answer louder.
5. **Change the picture a little that way, and repeat.** It starts on a small version of the picture and goes on in larger
   ones, the *octaves*, so that the dream has large shapes as well as fine detail.

*Try it: the same picture with an early, a middle and a late layer. You see how the network builds animals out of edges.*
""",
    "deepdream_zoom": """
A dream you can fly into: **each frame of the video is a dream of the frame before, seen from a little closer.**

1. **Dream.** The picture is changed so that a layer of the network sees more of what it already sees, as under *DeepDream*,
   but only a little.
2. **Move closer.** The dream is enlarged about its centre and turned by a fraction of a degree.
3. **Dream again, on the dream.** What has just been dreamt is now larger, so the layer finds new detail inside of it: an eye
   gets lashes, and between the lashes another eye begins.
4. **Repeat.** After a few seconds nothing is left of your picture, and all that is seen is what the network knows.

*Try it: an early layer such as block 5 for a flight through patterns, and a zoom under 1 to fly out instead of in.*
""",
    "style_transfer": """
A network sees a picture in more than one way at once, and two of them can be pulled apart: **what is in it, and how it is
painted.**

1. **Content.** Deeper layers know which objects there are and how they are arranged, and hardly care about texture and
   colour any more. Their activations are the *content representation* of the first picture.
2. **Style.** Which features occur *together*, say blue with curved strokes, is told by the correlations between a layer's
   feature maps. They keep texture and colour, and forget where anything was: the *style representation* of the second.
3. **Combine.** The result starts as the content picture. Step by step its pixels are changed until the network finds in it
   the content of the first and the style of the second.

*Try it: more strength for the style, and watch when the objects begin to dissolve.*
""",
}

PRIVACY = (
    "Your pictures stay on the server that runs this page, are used for nothing but your results, and are deleted with them "
    "within {hours} hours. Location and other metadata are removed before a picture is used."
)
