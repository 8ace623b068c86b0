// The lesson: seven steps, each with a sentence, a control and a picture that moves. `element`, `props`, `server` and `watch` are
// those of Gradio's HTML component.
featviz.lesson = (element, props, server, watch) => {
    const {make} = featviz, {steps} = props;
    const words = (key, values = {}) => featviz.say(`lesson_${key}`, values);

    // What is shown: the step, and for each step the chosen value, the frame, and the place that was pointed at.
    const asked = Number(featviz.query.get("lesson"));
    let now = steps[asked - 1] ?? steps[0], picture = null, playing = 0;
    const state = Object.fromEntries(steps.map(({name, first}) => [name, {value: first, frame: 0, at: null}]));

    // The parts.
    const numbers = steps.map((step, i) => make("button", {type: "button", textContent: i + 1, title: words(`${step.name}_title`)}));
    const title = make("h3", {tabIndex: -1}), sentence = make("p", {className: "sentence"});
    const slider = make("input", {type: "range", min: 0, step: 1}), chosen = make("output");
    const label = make("span"), control = make("label", {className: "control"}, label, slider, chosen);
    const figures = make("div", {className: "figures"}), result = make("p", {className: "result"}), note = make("p", {className: "note"});
    const before = make("button", {type: "button", textContent: words("before")});
    const after = make("button", {type: "button", textContent: words("after")});
    const list = make("nav", {}, ...numbers), root = make("div", {className: "lesson"},
        list, title, sentence, control, figures, result, note, make("div", {className: "turn"}, before, after));
    list.setAttribute("aria-label", words("steps"));
    result.setAttribute("aria-live", "polite");
    note.setAttribute("role", "status");
    element.replaceChildren(root);

    // The answers of the server for this picture. One request at a time; after its answer, the one that is wanted by then is sent.
    let answers = new Map(), asking = false;
    const wanted = () => `${picture?.path} ${now.name} ${state[now.name].value}`;
    const refresh = async () => {
        const key = wanted(), known = answers.get(key);
        if (known) {
            root.removeAttribute("aria-busy");
            return draw(known);
        }
        clearInterval(playing); // Its frames are those of another value.
        root.setAttribute("aria-busy", "true");
        if (asking) return;
        asking = true;
        note.textContent = words("computing");
        const request = {step: now.name, value: state[now.name].value, picture: picture && {path: picture.path}};
        const answer = await featviz.answer(server.lesson_step(request));
        asking = false;
        if (!answer.error) answers.set(key, answer);
        if (key !== wanted()) return refresh();
        note.textContent = answer.error ?? "";
        root.removeAttribute("aria-busy");
        if (!answer.error) draw(answer);
    };

    const open = step => {
        clearInterval(playing);
        now = step;
        const position = steps.indexOf(step);
        numbers.forEach((button, i) => button.setAttribute("aria-current", i === position ? "step" : "false"));
        title.textContent = `${position + 1} · ${words(`${step.name}_title`)}`;
        sentence.textContent = words(`${step.name}_text`);
        before.disabled = position === 0;
        after.disabled = position === steps.length - 1;
        root.dataset.link = `?lesson=${position + 1}`;
        root.dataset.step = step.name;
        result.textContent = "";
        figures.replaceChildren();
        control.hidden = true;
        featviz.address();
        refresh();
    };
    const turn = step => {
        open(step);
        title.focus({preventScroll: true});
    };

    // What a step shows. An image has its frames; the control moves through them, or asks for another value.
    const image = source => make("img", {src: source, alt: ""});
    const draw = answer => {
        clearInterval(playing);
        note.textContent = "";
        const mine = state[now.name], values = now.values.length > 1;
        const most = Math.max(...answer.figures.map(({frames}) => frames.length)) - 1;
        control.hidden = now.name === "style"; // The matrix is the control.
        label.textContent = words(`${now.name}_control`);
        Object.assign(slider, {max: values ? now.values.length - 1 : most, value: values ? mine.value : mine.frame});
        chosen.textContent = values ? now.values[mine.value] : mine.frame;
        drawings[now.name] ? drawings[now.name](answer, mine) : drawFrames(answer, mine.frame);
        if (!answer.plays) return;
        answer.plays = values; // A control of frames moves along, once.
        const show = frame => {
            drawFrames(answer, frame);
            if (!values) [mine.frame, slider.value, chosen.textContent] = [frame, frame, frame];
        };
        if (matchMedia("(prefers-reduced-motion: reduce)").matches) return show(most);
        let frame = 0;
        playing = setInterval(() => {
            show(frame++);
            if (frame > most) clearInterval(playing);
        }, 150);
    };
    const drawFrames = (answer, frame) => figures.replaceChildren(...answer.figures.map(({name, frames}) =>
        figure(name, image(frames[Math.min(frame, frames.length - 1)]))));
    const figure = (name, ...shown) => make("figure", {data: {name}}, ...shown, make("figcaption", {textContent: words(`shows_${name}`)}));

    // A picture with a frame around the place of a grid that was pointed at. Up and down still scroll the page.
    const arrows = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
    const pointed = (shown, [rows, columns], reach, at, moved) => {
        const frame = make("div", {className: "frame"}), stage = make("div", {className: "stage", tabIndex: 0, role: "application"}, shown, frame);
        stage.setAttribute("aria-label", words(`${now.name}_point`));
        const move = place => {
            at = place.map((value, i) => Math.min([rows, columns][i] - 1 - reach, Math.max(reach, value)));
            Object.assign(frame.style, {
                top: `${100 * (at[0] - reach) / rows}%`, height: `${100 * (2 * reach + 1) / rows}%`,
                left: `${100 * (at[1] - reach) / columns}%`, width: `${100 * (2 * reach + 1) / columns}%`,
            });
            moved(at);
        };
        const follow = ({clientX, clientY}) => {
            const box = stage.getBoundingClientRect();
            move([Math.floor((clientY - box.top) / box.height * rows), Math.floor((clientX - box.left) / box.width * columns)]);
        };
        stage.addEventListener("pointermove", follow);
        stage.addEventListener("pointerdown", follow);
        stage.addEventListener("keydown", event => {
            if (!arrows[event.key]) return;
            move(at.map((value, i) => value + arrows[event.key][i]));
            event.preventDefault();
        });
        return [stage, () => move(at)];
    };

    const drawings = {
        // The rows of the figures are channels.
        layers: answer => figures.replaceChildren(...answer.figures.filter(({frames}) => frames.some(Boolean)).map(({name, frames}) =>
            figure(name, ...frames.map(source => source ? image(source) : make("span"))))),

        // The sum is computed here from the pixels and the weights; the map is the network's.
        async kernel({figures: [seen, kernel, map], weights, bias}, mine) {
            const source = image(seen.frames[0]), patch = make("canvas", {width: 3, height: 3}), step = now, value = mine.value;
            await source.decode();
            if (now !== step || mine.value !== value) return;
            const {naturalWidth: width, naturalHeight: height} = source, canvas = make("canvas", {width, height});
            const context = canvas.getContext("2d", {willReadFrequently: true}), dot = make("div", {className: "dot"});
            context.drawImage(source, 0, 0);
            const [stage, start] = pointed(source, [height, width], 1, mine.at ?? [Math.floor(height / 2), Math.floor(width / 2)], at => {
                mine.at = at;
                const pixels = context.getImageData(at[1] - 1, at[0] - 1, 3, 3);
                patch.getContext("2d").putImageData(pixels, 0, 0);
                Object.assign(dot.style, {top: `${100 * (at[0] + 0.5) / height}%`, left: `${100 * (at[1] + 0.5) / width}%`});
                let sum = bias;
                weights.forEach((row, y) => row.forEach((colours, x) => colours.forEach((weight, colour) => {
                    sum += weight * pixels.data[4 * (3 * y + x) + colour] / 255;
                })));
                result.textContent = words("kernel_result", {sum: sum.toFixed(0), activation: Math.max(0, sum).toFixed(0)});
            });
            figures.replaceChildren(figure("picture", stage), figure("patch", patch), figure("kernel", image(kernel.frames[0])),
                figure("map", make("div", {className: "stage"}, image(map.frames[0]), dot)));
            start();
        },

        // Both maps and their product, for the cell of the matrix that was pointed at.
        style({figures: [matrix, one, other, both], channels, cosines}, mine) {
            const [first, second, product] = [image(""), image(""), image("")], count = channels.length;
            const [stage, start] = pointed(image(matrix.frames[0]), [count, count], 0, mine.at ?? [2, 1], at => {
                mine.at = at;
                const [i, j] = [Math.max(...at), Math.min(...at)];
                [first.src, second.src, product.src] = [one.frames[at[0]], other.frames[at[1]], both.frames[i * (i + 1) / 2 + j]];
                result.textContent = words("style_result", {
                    one: channels[at[0]], other: channels[at[1]], cosine: cosines[i][j].toFixed(2),
                });
            });
            figures.replaceChildren(figure("matrix", stage), figure("one", first), figure("other", second), figure("both", product));
            start();
        },
    };

    numbers.forEach((button, i) => button.addEventListener("click", () => turn(steps[i])));
    before.addEventListener("click", () => turn(steps[steps.indexOf(now) - 1]));
    after.addEventListener("click", () => turn(steps[steps.indexOf(now) + 1]));
    slider.addEventListener("input", () => {
        state[now.name][now.values.length > 1 ? "value" : "frame"] = Number(slider.value);
        chosen.textContent = now.values.length > 1 ? now.values[slider.value] : slider.value;
        refresh();
    });
    const start = () => {
        if (!element.offsetParent) return; // Another tab is open.
        if (props.value?.path === picture?.path && root.dataset.link) return featviz.address();
        picture = props.value ?? null;
        answers = new Map();
        Object.values(state).forEach(it => { it.at = null; });
        open(now);
    };
    watch("value", start);
    new IntersectionObserver(start).observe(element);
};
