"""What the page says, apart from what the recipes' fields say for themselves."""

TITLE = "featviz"
TAGLINE = "See what a convolutional network sees."

READY, READY_WITHOUT = "Choose a picture, or click an example.", "Choose a channel, and see what it looks for."

RUN = {
    "deepdream": "Start dreaming",
    "deepdream_zoom": "Start the journey",
    "style_transfer": "Start painting",
    "activation_maps": "Look at this layer",
    "classification": "What is it?",
    "feature_visualization": "See what it looks for",
    "reconstruct_content": "Rebuild from one layer",
    "reconstruct_style": "Rebuild from correlations",
}

PAINT = {"deepdream": "dream", "deepdream_zoom": "dream", "style_transfer": "use the style"}
"""What is done where a visitor paints."""

TRY_OUT = {
    "deepdream": "Which layer? Show me",
    "style_transfer": "How strong, how large? Show me",
    "reconstruct_content": "All depths, side by side",
    "reconstruct_style": "One layer, two, up to five: side by side",
}

TRIED_OUT = {
    "deepdream": "The same dream at every layer, from shallow to deep.",
    "style_transfer": "The same pair, small, with other strengths and brush sizes.",
    "reconstruct_content": (
        "From shallow to deep. Early layers keep every pixel; later ones know what is where, but no longer how it looked "
        "exactly. Under each: the layer and how near it comes, in decibels; over 30 you hardly see a difference."
    ),
    "reconstruct_style": (
        "With one layer there are only colours and grain; each deeper one adds larger strokes and shapes. Where anything was "
        "in the picture is never told."
    ),
}

UNDER = {"psnr": "{:.1f} dB", "nearer": "{:.0f}× nearer"}
"""What is measured, under a small picture."""

MEASURED = {
    "psnr": "{:.1f} decibels from the picture: over 30 you hardly see a difference, under 20 details are lost.",
    "nearer": "Its correlations are {:.0f} times nearer to those of the picture than the noise was.",
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

HOW_IT_WORKS |= {
    "activation_maps": """
A layer of the network is a stack of *channels*. Each channel is a small detector that is moved over the whole picture, and
its **activation map** shows where it found what it looks for: bright where it answers, dark where it does not.

- **The number** under a map is the channel's answer, averaged over the picture.
- **Deeper layers** have more channels on a coarser grid, and each of their units *sees* a larger piece of the picture, its
  receptive field.
- **Click a map** to see what the channel looks for, and to dream it.

*Try it: a picture with eyes and an early, then a deeper layer. Edges light up first, then eyes, then faces.*
""",
    "classification": """
This is what the network was trained for: a thousand names of animals and things, and for each the probability that the
picture shows it. It knows nothing else, so a face becomes a wig or a bow tie.

*Try it: a photograph first, then its dream. What was a mountain is now, to the network, a dog.*
""",
    "feature_visualization": """
How do you find out what a detector looks for? **Make the picture that it answers to most.**

1. **Start with noise**, almost grey.
2. **Ask one channel** how loudly it answers, and follow the gradient back to the picture, as in DeepDream.
3. **Move, turn and scale** the picture a little at each step. What makes the network answer only at one exact place is noise;
   what survives is what the channel really looks for.
4. **Change waves instead of pixels.** The picture is made of its frequencies, which lets large shapes grow as easily as
   small ones.

*Try it: the same channel as several pictures. A channel often looks for more than one thing.*
""",
    "reconstruct_content": """
What does a layer *know* about your picture? Keep only its activations, throw the picture away, start from noise, and change
it until the layer answers the same. **What comes back is what the layer has kept.**

Early layers give back every pixel. Deep layers give back what is where, but the exact colours and textures are gone: these
no longer matter for telling a cat from a dog. That is why style transfer takes its *content* from a deep layer.
""",
    "reconstruct_style": """
Now throw away even more: not where each channel answers, only **which channels answer together**. These correlations, the
*Gram matrix*, are summed over the whole picture and have forgotten every place in it.

From noise and these numbers alone, the texture comes back: with one layer only colours and grain, with deeper ones strokes,
then whole shapes. The arrangement never does. That is why style transfer takes its *style* from here.
""",
}

PRIVACY = (
    "Your pictures stay on the server that runs this page, are used for nothing but your results, and are deleted with them "
    "within {hours} hours. Location and other metadata are removed before a picture is used. Into a result goes with which "
    "settings it was made, so that they can be restored from it, and nothing else."
)
