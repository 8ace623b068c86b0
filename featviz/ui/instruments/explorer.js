// The explorer, drawn from data that the server sends once for a picture and a layer. `element`, `props`, `server` and `watch` are
// those of Gradio's HTML component.
featviz.explorer = (element, props, server, watch) => {
    const words = (key, values = {}) => featviz.say(`explore_${key}`, values);
    const {make} = featviz;
    const button = (text, options = {}) => make("button", {type: "button", textContent: text, ...options});
    const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    // The parts of a sentence, with an element in the place of its name.
    const insert = (sentence, {other}) => sentence.split("{other}").flatMap((part, i) => i ? [other, part] : [part]);
    const percent = share => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
    const title = layer => layer.split("/")[1];

    // What is shown.
    let data = null, places = null, at = [0, 0], why = null, after = null, off = new Set(), offLayer = null, painting = false, painted = false;
    let asked = 0, seen = null;

    // The parts.
    const image = make("img", {alt: ""}), heat = make("canvas", {className: "heat"}), paint = make("canvas", {className: "paint"});
    const frame = make("div", {className: "field"}), dot = make("div", {className: "dot"});
    const stage = make("div", {className: "stage", tabIndex: 0, role: "application"}, image, heat, paint, frame, dot);
    const caption = make("p", {className: "caption"}), channels = make("ol", {className: "channels"});
    const strip = make("div", {className: "strip", role: "group"}), names = make("div", {className: "names"});
    const accent = make("div", {className: "accent"}), reasons = make("div", {className: "why"}), note = make("p", {className: "note"});
    const network = make("select"), other = make("input", {type: "text", maxLength: 100});
    const brush = button(words("paint")), whole = button(words("whole")), fewest = button(words("fewest"));
    stage.setAttribute("aria-label", words("stage"));
    network.setAttribute("aria-label", words("network"));
    strip.setAttribute("aria-label", words("layers"));
    other.setAttribute("aria-label", other.placeholder = words("other"));
    caption.setAttribute("aria-live", "polite");
    note.setAttribute("role", "status");
    network.append(...props.networks.map(([text, value]) => make("option", {value, textContent: text})));
    brush.hidden = whole.hidden = fewest.hidden = true;
    element.replaceChildren(make("div", {className: "explorer"},
        make("div", {className: "look"}, stage, make("div", {className: "here"}, caption, channels)),
        accent, network, strip, make("div", {className: "tools"}, brush, whole, fewest), note,
        make("div", {className: "answers"}, names, reasons)));

    const ask = async (name, request) => {
        const number = ++asked;
        element.firstChild.setAttribute("aria-busy", "true");
        const answer = await featviz.answer(server[name](request));
        if (number !== asked) return null; // A newer question was asked.
        element.firstChild.removeAttribute("aria-busy");
        note.textContent = answer.error ?? "";
        return answer.error ? null : answer;
    };

    // A picture or a layer.
    const open = async layer => {
        const file = props.value, fresh = !data || data.file !== file?.path || layer.split("/")[0] !== places.layer.split("/")[0];
        if (!file?.path) return;
        const answer = await ask("look", {picture: fresh ? {path: file.path} : data.picture, layer});
        if (!answer) return;
        const arrays = {channels: new Int16Array(bytes(answer.places.channels).buffer), shares: bytes(answer.places.shares)};
        places = {...answer.places, ...arrays};
        data = {...answer, file: file.path};
        if (fresh) {
            at = [Math.floor(places.shape[1] / 2), Math.floor(places.shape[2] / 2)];
            [why, after, off, painted, seen] = [null, null, new Set(), false, null];
            image.src = file.url ?? `${window.gradio_config.root}${window.gradio_config.api_prefix}/file=${file.path}`;
            const [width, height] = data.size;
            stage.style.aspectRatio = `${width} / ${height}`;
            Object.assign(paint, {width, height});
        } else {
            at = [0, 1].map(i => Math.min(at[i], places.shape[i + 1] - 1));
        }
        network.value = [...network.options].find(({value}) => value.startsWith(`${layer.split("/")[0]}/`)).value;
        redraw(drawStrip, drawAnswers, point);
        return true;
    };

    // Draw anew. The focus stays on the control that was used, or goes to the picture if that control is gone.
    const redraw = (...drawers) => {
        const used = document.activeElement, part = [strip, names, channels, reasons].find(part => part.contains(used));
        drawers.forEach(draw => draw());
        if (!part) return;
        const key = ({dataset}) => JSON.stringify(dataset);
        ([...part.querySelectorAll("button, select")].find(control => key(control) === key(used)) ?? stage).focus({preventScroll: true});
    };

    // Maps.
    const drawMap = (canvas, [height, width], values, colour) => {
        Object.assign(canvas, {width, height});
        const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
        for (let i = 0; i < width * height; i++) pixels.data.set(colour(values[i]), 4 * i);
        context.putImageData(pixels, 0, 0);
    };
    const signed = values => {
        const greatest = Math.max(...values.map(Math.abs)) || 1;
        return value => [...(value > 0 ? [245, 158, 11] : [59, 130, 246]), 170 * Math.abs(value) / greatest];
    };
    const drawHeat = found => found ? drawMap(heat, why.side, found.map, signed(found.map)) : Object.assign(heat, {width: 1, height: 1});

    const drawStrip = () => {
        const widest = Math.max(...data.layers.map(({shape}) => Math.max(...shape.slice(1))));
        strip.replaceChildren(...data.layers.map(({layer, shape, side, map}) => {
            const canvas = make("canvas"), [count, height, width] = shape;
            drawMap(canvas, side, bytes(map), value => [139 * value / 255 + 20, 92 * value / 255 + 20, 246 * value / 255 * 0.9 + 25, 255]);
            canvas.style.width = `${Math.max(8, 46 * Math.sqrt(Math.max(height, width) / widest) * width / Math.max(height, width))}px`;
            const pressed = button("", {className: "layer", title: `${title(layer)}: ${count} × ${width}×${height}`, data: {layer}});
            pressed.setAttribute("aria-label", pressed.title);
            pressed.setAttribute("aria-pressed", layer === places.layer);
            pressed.append(canvas, make("span", {textContent: title(layer)}));
            return pressed;
        }));
        const row = strip.querySelector("[aria-pressed=true]");
        strip.scrollLeft = row.offsetLeft - strip.clientWidth / 2 + row.clientWidth / 2;
    };

    // A channel with what it looks for. Without an optimised picture of it, `map` shows where it counts in this picture.
    const channelButton = (layer, channel, share, text, map = null) => {
        const thumbs = featviz.thumbs(data.atlas[layer], channel);
        if (map && !data.atlas[layer].sheet) {
            thumbs.unshift(make("canvas", {className: "thumb"}));
            drawMap(thumbs[0], why.side, map, signed(map));
        }
        const made = button("", {className: "channel", data: {layer, channel}, disabled: !data.names.length});
        made.setAttribute("aria-pressed", layer === offLayer && off.has(channel));
        made.style.setProperty("--share", Math.min(1, Math.abs(share)));
        made.append(make("span", {className: "thumbs"}, ...thumbs), make("span", {className: "number", textContent: channel}), make("span", {className: "share", textContent: text}));
        made.title = words("switch", {channel, layer: title(layer)});
        return made;
    };

    // Under the pointer. No request.
    const point = () => {
        const [count, height, width] = places.shape, [row, column] = at, start = (row * width + column) * places.count;
        const edges = [0, 1].map(i => {
            const length = data.size[1 - i], first = places.first[i], last = places.last[i];
            const low = first === null ? 0 : first + at[i] * places.strides[i], high = last === null ? length : last + 1 + at[i] * places.strides[i];
            return [Math.max(0, low) / length, Math.min(length, high) / length];
        });
        Object.assign(frame.style, {
            top: `${100 * edges[0][0]}%`, height: `${100 * (edges[0][1] - edges[0][0])}%`,
            left: `${100 * edges[1][0]}%`, width: `${100 * (edges[1][1] - edges[1][0])}%`,
        });
        Object.assign(dot.style, {top: `${100 * (row + 0.5) / height}%`, left: `${100 * (column + 0.5) / width}%`});
        const sees = places.first[0] === null ? words("all") : words("pixels", {
            width: places.last[1] - places.first[1] + 1, height: places.last[0] - places.first[0] + 1,
        });
        caption.textContent = words("here", {layer: title(places.layer), row: row + 1, column: column + 1, channels: count, sees});
        const shares = places.shares.subarray(start, start + places.count);
        channels.replaceChildren(...Array.from(shares, (share, i) => {
            const channel = places.channels[start + i], see = button("⌕", {className: "see", data: {see: channel}});
            see.setAttribute("aria-label", see.title = words("see", {channel}));
            return make("li", {}, channelButton(places.layer, channel, share / Math.max(1, shares[0]), percent(share / 255)), see);
        }));
        if (seen !== places.layer) accent.replaceChildren();
    };

    // What a channel sees in the picture, and the parts to which it responds most.
    const accentuate = async channel => {
        const {layer} = places, answer = await ask("accentuate", {picture: data.picture, layer, channel});
        if (!answer) return;
        seen = layer;
        const figure = (key, ...sources) => make("figure", {}, make("figcaption", {textContent: words(key, {channel})}),
            make("div", {}, ...sources.map(src => make("img", {src, alt: ""}))));
        accent.replaceChildren(figure("sees", answer.picture), figure("where", answer.map), figure("most", ...answer.patches));
        accent.scrollIntoView({block: "nearest"});
    };
    const moveTo = ({clientX, clientY}) => {
        const box = stage.getBoundingClientRect(), [, height, width] = places.shape;
        const share = [(clientY - box.top) / box.height, (clientX - box.left) / box.width].map(it => Math.min(0.9999, Math.max(0, it)));
        const place = [Math.floor(share[0] * height), Math.floor(share[1] * width)];
        if (place.join() !== at.join()) {
            at = place;
            point();
        }
        return share;
    };

    // Painting a region away.
    const stamp = ([y, x]) => {
        const context = paint.getContext("2d"), [width, height] = data.size;
        context.fillStyle = "rgb(139, 92, 246)";
        context.beginPath();
        context.arc(x * width, y * height, 0.06 * Math.max(width, height), 0, 7);
        context.fill();
        painted = true;
    };
    const mask = () => {
        const copy = make("canvas", {width: paint.width, height: paint.height}), context = copy.getContext("2d");
        context.drawImage(paint, 0, 0);
        context.globalCompositeOperation = "source-in";
        context.fillStyle = "white";
        context.fillRect(0, 0, copy.width, copy.height);
        context.globalCompositeOperation = "destination-over";
        context.fillStyle = "black";
        context.fillRect(0, 0, copy.width, copy.height);
        return copy.toDataURL("image/png");
    };
    stage.addEventListener("pointermove", event => {
        if (!data) return;
        const share = moveTo(event);
        if (painting && event.buttons) stamp(share);
    });
    stage.addEventListener("pointerdown", event => {
        if (!data) return;
        const share = moveTo(event);
        if (painting) stamp(share);
        stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointerup", () => { if (painting && painted) without(); });
    const arrows = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
    stage.addEventListener("keydown", event => {
        if (!data) return;
        if (arrows[event.key]) {
            at = at.map((place, i) => Math.min(places.shape[i + 1] - 1, Math.max(0, place + arrows[event.key][i])));
            point();
        } else if ((event.key === "Enter" || event.key === " ") && painting) {
            stamp(at.map((place, i) => (place + 0.5) / places.shape[i + 1]));
            without();
        } else {
            return;
        }
        event.preventDefault();
    });

    // The names, and why.
    const drawAnswers = () => {
        const before = new Map(data.names), now = new Map(after ?? data.names);
        const rows = [...new Set([...now.keys()].slice(0, 5).concat([...before.keys()]))];
        names.replaceChildren(...rows.map(name => {
            const row = button("", {className: "name", data: {name}});
            row.style.setProperty("--share", now.get(name) ?? 0);
            row.style.setProperty("--before", before.get(name) ?? 0);
            row.setAttribute("aria-pressed", why?.of === name);
            row.append(make("span", {textContent: name}), make("span", {textContent: percent(now.get(name) ?? 0)}));
            row.title = words("why", {name});
            return row;
        }), ...(data.names.length ? [other] : []));
        brush.hidden = fewest.hidden = !data.names.length;
        brush.setAttribute("aria-pressed", painting);
        whole.hidden = !off.size && !painted;
        drawWhy();
        drawHeat(why);
    };
    const drawWhy = () => {
        const state = off.size ? [make("p", {textContent: words("off", {
            layer: title(offLayer), channels: [...off].join(", "), count: off.size,
        })})] : [];
        if (!why) {
            reasons.replaceChildren(...state, ...(data.names.length ? [make("p", {textContent: words("choose")})] : []));
            return;
        }
        const greatest = Math.max(...why.channels.map(({value}) => Math.abs(value)));
        const list = sign => make("ol", {className: "channels"}, ...why.channels.filter(({value}) => sign * value > 0).map(({channel, value, map}) =>
            make("li", {}, channelButton(data.last, channel, value / greatest, value.toFixed(2).replace("-", "−"), map))));
        const rather = make("select", {value: why.rather}, make("option", {value: "", textContent: "–"}),
            ...data.names.filter(([name]) => name !== why.of).map(([name]) => make("option", {value: name, textContent: name, selected: name === why.rather})));
        rather.setAttribute("aria-label", words("rather"));
        rather.addEventListener("change", () => explain(why.of, rather.value));
        const sum = sign => why.channels.filter(({value}) => sign * value > 0).reduce((total, {value}) => total + value, 0);
        const terms = {for: sum(1), against: sum(-1), rest: why.rest, bias: why.bias, logit: why.logit};
        const signedText = value => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
        reasons.replaceChildren(...state,
            make("h3", {}, ...insert(words("why_rather", {name: why.of}), {other: rather})),
            make("h4", {textContent: words("for")}), list(1), make("h4", {textContent: words("against")}), list(-1),
            make("p", {className: "sum", textContent: words("sum", Object.fromEntries(Object.entries(terms).map(([key, value]) => [key, signedText(value)])))}));
    };
    const explain = async (name, rather = "") => {
        const answer = await ask("explain", {picture: data.picture, network: places.layer.split("/")[0], name, rather});
        if (!answer) return;
        why = {...answer, of: answer.name, rather};
        redraw(drawAnswers);
    };

    // Off.
    const without = async (search = false) => {
        if (!off.size && !painted && !search) {
            after = null;
            redraw(drawAnswers, point);
            return;
        }
        const request = {picture: data.picture, layer: offLayer ?? places.layer, channels: [...off].join(", "), names: data.names.map(([name]) => name)};
        const answer = await ask("without", painted ? {...request, mask: mask()} : request);
        if (!answer) return;
        after = answer.names;
        if (search) off = new Set(answer.channels);
        redraw(drawAnswers, point);
    };
    const toggle = (layer, channel) => {
        if (layer !== offLayer) [off, offLayer] = [new Set(), layer];
        if (!off.delete(channel)) off.add(channel);
        without();
    };

    element.addEventListener("click", ({target}) => {
        const {layer, channel, name, see} = target.closest("button")?.dataset ?? {};
        if (see !== undefined) accentuate(Number(see));
        else if (name !== undefined) why?.of === name ? (why = null, redraw(drawAnswers)) : explain(name);
        else if (channel !== undefined) toggle(layer, Number(channel));
        else if (layer !== undefined) open(layer);
    });
    element.addEventListener("pointerover", ({target}) => {
        const channel = why && target.closest(".why .channel")?.dataset.channel;
        if (why) drawHeat(why.channels.find(found => String(found.channel) === channel) ?? why);
    });
    other.addEventListener("change", () => other.value && explain(other.value));
    network.addEventListener("change", () => open(network.value));
    brush.addEventListener("click", () => {
        painting = !painting;
        drawAnswers();
        stage.focus({preventScroll: true});
    });
    whole.addEventListener("click", () => {
        [off, painted, after] = [new Set(), false, null];
        paint.getContext("2d").clearRect(0, 0, paint.width, paint.height);
        redraw(drawAnswers, point);
        stage.focus({preventScroll: true}); // The button is hidden now.
    });
    fewest.addEventListener("click", () => {
        [off, offLayer] = [new Set(), places.layer];
        without(true);
    });
    const start = async () => {
        const path = props.value?.path;
        if (!element.offsetParent || (path && path === data?.file)) return false; // Another tab is open, or nothing has changed.
        note.textContent = path ? "" : words("no_picture");
        return path ? open(places?.layer ?? network.value) : false;
    };
    watch("value", async () => { if (await start()) featviz.scrollTo(stage); });
    new IntersectionObserver(start).observe(element);
};
