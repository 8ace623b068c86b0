"""The texts of the page, beside those of the recipes' fields."""

TITLE = "featviz"
TAGLINE = "See what a convolutional network sees."

READY, READY_WITHOUT = "Choose a picture, or click an example.", "Choose a channel to see what it looks for."

RUN = {
    "deepdream": "Start dreaming",
    "deepdream_zoom": "Start the zoom",
    "style_transfer": "Transfer the style",
    "activation_maps": "Show this layer",
    "classification": "What is it?",
    "feature_visualization": "See what it looks for",
    "reconstruct_content": "Rebuild from one layer",
    "reconstruct_style": "Rebuild from correlations",
}

PAINT = {"deepdream": "dream", "deepdream_zoom": "dream", "style_transfer": "use the style"}
"""What happens where a visitor paints: "Paint where to …"."""

TRY_OUT = {
    "deepdream": "Compare the layers",
    "style_transfer": "Compare strengths and brush sizes",
    "reconstruct_content": "Compare the depths",
    "reconstruct_style": "Compare one to five layers",
}

TRIED_OUT = {
    "deepdream": "The same dream at every layer, from shallow to deep.",
    "style_transfer": "The same two pictures, small, with other strengths and brush sizes.",
    "reconstruct_content": (
        "From shallow to deep. Early layers keep every pixel. Later layers keep what is where, but not exactly how it looked. "
        "Each caption has the layer and the similarity in decibels: above 30 you hardly see a difference."
    ),
    "reconstruct_style": (
        "One layer gives only colours and grain. Each deeper layer adds larger strokes and shapes. The places of things in the "
        "picture are lost."
    ),
}

UNDER = {"psnr": "{:.1f} dB", "nearer": "{:.0f}× nearer"}
"""Measures in the caption of a small picture."""

MEASURED = {
    "psnr": "Similarity to the picture: {:.1f} decibels. Above 30 you hardly see a difference; below 20 details are lost.",
    "nearer": "The correlations are {:.0f} times nearer to those of the picture than at the start.",
}

HOW_IT_WORKS = {
    "deepdream": """
A network that was trained to name things in photographs has learnt what edges, fur and eyes look like.
DeepDream amplifies this: **whatever a layer already detects in your picture, you get more of it.**

1. **Choose a picture and a layer.** The first layers of the network react to edges and textures, the later ones to eyes,
   faces and whole animals.
2. **Activations.** The picture goes through the network up to that layer. The result is its *activation maps*: one for
   each pattern that the layer looks for, bright where it found the pattern.
3. **Ask for more of the same.** The layer's gradient is set equal to its activations, so that the strongest activations
   count most.
4. **Gradient.** The gradient is computed back to the picture. It says for each pixel which change would make the
   activations stronger.
5. **Change the picture a little in this direction, and repeat.** It starts on a small version of the picture and continues
   on larger ones, the *octaves*, so that the dream has large shapes as well as fine detail.

*Try it: the same picture with an early, a middle and a late layer. You see how the network builds animals from edges.*
""",
    "deepdream_zoom": """
A zoom into a dream: **each frame of the video is a dream of the previous frame, seen from a little closer.**

1. **Dream.** The picture is changed so that a layer of the network sees more of what it already sees, as in *DeepDream*,
   but only a little.
2. **Move closer.** The dream is enlarged about its centre and turned by a fraction of a degree.
3. **Dream again, on the dream.** The last dream is now larger, so the layer finds new detail inside it: an eye
   gets lashes, and between the lashes another eye begins.
4. **Repeat.** After a few seconds nothing is left of your picture. You see only what the network knows.

*Try it: an early layer such as block 5 for a flight through patterns, and a zoom below 1 to fly out instead of in.*
""",
    "style_transfer": """
A network sees two things in a picture that can be separated: **what is in it, and how it is painted.**

1. **Content.** Deeper layers know which objects there are and how they are arranged. They depend little on texture and
   colour. Their activations are the *content representation* of the first picture.
2. **Style.** The correlations between a layer's feature maps say which features occur *together*, for example blue with
   curved strokes. They keep texture and colour, and lose all places: the *style representation* of the second picture.
3. **Combine.** The result starts as the content picture. Step by step its pixels are changed until the network finds in it
   the content of the first and the style of the second.

*Try it: more style strength. At some point the objects begin to dissolve.*
""",
}

HOW_IT_WORKS |= {
    "activation_maps": """
A layer of the network is a stack of *channels*. Each channel is a small detector that is moved over the whole picture, and
its **activation map** shows where it found its pattern: bright where it is active, dark where it is not.

- **The number** under a map is the channel's activation, averaged over the picture.
- **Deeper layers** have more channels on a coarser grid, and each of their units *sees* a larger part of the picture, its
  receptive field.
- **Click a map** to see what the channel looks for, and to dream it.

*Try it: a picture with eyes, first with an early layer, then with deeper ones. You see edges, then eyes, then faces.*
""",
    "classification": """
This is what the network was trained for: a thousand names of animals and things, and for each the probability that the
picture shows it. It knows no other names, so it calls a face a wig or a bow tie.

*Try it: first a photograph, then its dream. For the network the mountain has become a dog.*
""",
    "feature_visualization": """
How do you find out what a detector looks for? **Make the picture that activates it most.**

1. **Start with noise**, almost grey.
2. **Measure the activation** of one channel, and compute the gradient back to the picture, as in DeepDream.
3. **Move, turn and scale** the picture a little at each step. A pattern that activates the network only at one exact place
   is noise; the patterns that remain are those that the channel really looks for.
4. **Change waves instead of pixels.** The picture is a sum of frequencies, so that large shapes grow as easily as
   small ones.

*Try it: the same channel as several pictures. A channel often looks for more than one pattern.*
""",
    "reconstruct_content": """
What does a layer *know* about your picture? Keep only its activations, start from noise, and change the noise
until the activations are the same. **You see again only what the layer has kept.**

Early layers give back every pixel. Deep layers give back what is where, but the exact colours and textures are lost: they
do not matter for telling a cat from a dog. That is why style transfer takes its *content* from a deep layer.
""",
    "reconstruct_style": """
Now keep even less: not where each channel is active, only **which channels are active together**. These correlations, the
*Gram matrix*, are summed over the whole picture, so every place in it is lost.

From noise and these numbers alone, the texture comes back: with one layer only colours and grain, with deeper ones strokes,
then whole shapes. The arrangement does not come back. That is why style transfer takes its *style* from here.
""",
}

PRIVACY = (
    "Your pictures stay on the server that runs this page. They are used only for your results. Pictures and results are "
    "deleted within {hours} hours. Location and other metadata are removed before a picture is used. A result contains the "
    "settings that made it, so that they can be restored from the file, and no other data."
)
