// What the page does in the browser: it keeps the visitor's pictures and settings over a reload, shares results, and refuses
// numbers with a sentence. Python calls these functions by `js=` of an event.
const featviz = {
    // Pictures are kept in IndexedDB, under the id of their box. Without it (a private window may lack it) nothing is kept.
    store(mode, use) {
        return new Promise(resolve => {
            const opening = indexedDB.open("featviz", 1);
            opening.onerror = () => resolve(undefined);
            opening.onupgradeneeded = () => opening.result.createObjectStore("pictures");
            opening.onsuccess = () => {
                const transaction = opening.result.transaction("pictures", mode);
                const request = use(transaction.objectStore("pictures"));
                transaction.oncomplete = () => resolve(request.result);
                transaction.onabort = () => resolve(undefined);
            };
        });
    },
    language: navigator.languages.map(tag => Object.keys(FEATVIZ.words).find(key => key.split("-")[0] === tag.split("-")[0]))
        .find(Boolean) ?? "en",

    // What a function of the server answers. Of a lost connection Gradio 6.31 only warns, and answers undefined.
    async answer(asked, lost = featviz.words.explore_failed) {
        return await asked.catch(() => undefined) ?? {error: lost};
    },

    say(key, values) {
        return Object.entries(values).reduce((text, [name, of]) => text.replace(`{${name}}`, of), featviz.words[key]);
    },
    get words() {
        return FEATVIZ.words[featviz.language];
    },
    make(tag, {data, ...properties} = {}, ...children) {
        const made = Object.assign(document.createElement(tag), properties);
        Object.assign(made.dataset, data);
        made.append(...children);
        return made;
    },
    query: new URLSearchParams(location.search),  // Of the link that opened the page.
    wait: milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds)),

    // A request that is sent again while there is no connection or the server is overloaded.
    async fetch(url, options) {
        for (const pause of [500, 1000, 2000, 4000, 8000, 0]) {
            const answer = await fetch(url, options).catch(() => null);
            if (answer?.ok || (answer && answer.status < 500)) return answer;
            await featviz.wait(pause);
        }
        return null;
    },

    // When the page opens: the texts that Python wrote in English.
    translate(masthead) {
        const {en} = FEATVIZ.words, {words} = featviz;
        if (featviz.language === "en") return [];
        const made = featviz.say("premade", FEATVIZ.premade[featviz.language]);
        return [masthead.replace(en.tagline, words.tagline).replace(en.skip, words.skip), `<p role="status">${made}</p>`];
    },

    // When the page opens: the texts of recipes and tabs. Only the visitor's language is sent.
    translations: {},
    async texts() {
        const address = FEATVIZ.texts[featviz.language], answer = address && await featviz.fetch(address);
        if (!answer?.ok) return [];
        const {updates, words} = await answer.json();
        featviz.translations = words;
        return [...updates, ...featviz.opened()];
    },

    // When the page opens: the entries of all menus, of which each has only the chosen one.
    menus: () => FEATVIZ.menus.map(list => ({__type__: "update", choices: FEATVIZ.lists[list]})),

    // When the page opens: upload the kept pictures again, since the server may be another one by now.
    async arrive([visitor, history, job, ...pictures]) {
        const {root, api_prefix} = window.gradio_config;
        await Promise.all(FEATVIZ.boxes.map(async (box, i) => {
            const blob = await featviz.store("readonly", store => store.get(box));
            if (!blob) return;
            const form = new FormData();
            form.append("files", blob, "picture");
            const answer = await featviz.fetch(`${root}${api_prefix}/upload`, {method: "POST", body: form});
            if (answer?.ok) pictures[i] = {path: (await answer.json())[0], meta: {_type: "gradio.FileData"}};
        }));
        return [visitor, history, job, ...pictures];
    },

    // The server has read the address, which may change from now on.
    here: false,
    arrived() {
        featviz.here = true;
        return featviz.changed();
    },

    // After the visitor has opened a tab. The tabs inside a group appear later, and then this is called again.
    opened() {
        const panel = [...document.querySelectorAll("#inputs [role=tabpanel][id^=tab_]")].find(panel => panel.offsetParent);
        featviz.wait(100).then(featviz.address);  // For the page to show it.
        return (FEATVIZ.tabs[panel?.id.slice("tab_".length)] ?? []).map(value => featviz.translations[value] ?? value);
    },

    // After a change of the settings: ask the server for what follows from them, with one question at a time, so that the last
    // answer is of the last settings. Gradio's `always_last` lets two changes within some milliseconds ask at once.
    revision: 0,
    asking: false,
    stale: false,
    async changed() {
        featviz.stale = true;
        if (featviz.asking) return [];
        featviz.asking = true;
        await featviz.wait(30);  // A recipe sets many controls.
        featviz.stale = false;
        return ++featviz.revision;
    },

    // The answer is here: write the settings into the address, and ask again if they have changed meanwhile or there is no estimate yet.
    async refreshed() {
        featviz.asking = false;
        await featviz.wait(0);  // For the page to show it.
        const {again} = document.querySelector("#estimate p")?.dataset ?? {};
        featviz.address();
        if (again !== undefined) await featviz.wait(1000);
        return featviz.stale || again !== undefined ? featviz.changed() : [];
    },

    // The server has looked at the uploads: show what it answers for each, unless the box has another picture by now.
    uploaded: ([answers, ...files]) => files.map(file => answers?.[file?.path]),

    // The address is a link to what is open: settings, or a step of the lesson.
    address() {
        const link = [...document.querySelectorAll("[data-link]")].find(element => element.checkVisibility())?.dataset.link;
        if (link && featviz.here) window.history.replaceState(window.history.state, "", location.pathname + link);
    },

    // After each change of a picture: keep it, or delete the one that was removed. One after the other.
    shown: {},
    keeping: Promise.resolve(),
    keep(files) {
        files.forEach((file, i) => {
            const box = FEATVIZ.boxes[i], url = file?.url;
            if (featviz.shown[box] === url) return;
            featviz.shown[box] = url;
            featviz.keeping = featviz.keeping.then(async () => {
                if (featviz.shown[box] !== url) return;
                const answer = url && await featviz.fetch(url);
                const blob = answer?.ok && await answer.blob();
                if (blob) await featviz.store("readwrite", store => store.put(blob, box));
                else if (!url) await featviz.store("readwrite", store => store.delete(box));
            });
        });
        return [];
    },

    // A square of a picture as an element. All lengths are in the unit that `width` and `height` of the picture have.
    crop({url, width, height}, left, top, side) {
        const made = featviz.make("span", {className: "thumb"});
        const share = (at, length) => `${100 * at / Math.max(1e-9, length - side)}%`;
        Object.assign(made.style, {
            backgroundImage: `url("${url}")`, backgroundSize: `${100 * width / side}% ${100 * height / side}%`,
            backgroundPosition: `${share(left, width)} ${share(top, height)}`,
        });
        return made;
    },

    // What a channel looks for, as elements: its optimised picture and the natural patch that activates it most, where there are some.
    // `layer`: of `channels_json`.
    thumbs({sheet, pictures, side, patches} = {}, channel) {
        const patch = patches?.[channel];
        return [
            ...(sheet ? [featviz.crop(sheet, channel % sheet.width, Math.floor(channel / sheet.width), 1)] : []),
            ...(patch ? [featviz.crop(pictures[patch[0]], patch[1], patch[2], side)] : []),
        ];
    },

    forget() {
        featviz.store("readwrite", store => store.clear());
        return [];
    },

    // On a phone the result is below the controls, out of sight.
    scrollTo(element) {
        if (window.innerWidth < 700) element.scrollIntoView({behavior: "smooth", block: "start"});
    },

    toResult(values) {
        setTimeout(() => featviz.scrollTo(document.getElementById("result")), 150);
        return values;
    },

    showResult(values) {
        featviz.replace("start", "stop", () => true);
        return featviz.toResult(values);
    },

    // Stop goes, and with it the focus, unless the visitor has moved it.
    ended() {
        featviz.replace("stop", "start", () => document.activeElement === document.body);
    },

    // Move the focus when a button has taken the place of another one, which takes a busy server up to minutes.
    async replace(before, after, wanted) {
        for (let tries = 0; tries < 6000; tries++, await featviz.wait(50)) {
            const button = document.getElementById(after);
            if (!button || document.getElementById(before)) continue;
            if (wanted()) button.focus({preventScroll: true});
            return;
        }
    },

    showChannel() {
        requestAnimationFrame(() => {
            const title = document.querySelector("#channel h3");
            title?.scrollIntoView({behavior: "smooth", block: "start"});
            title?.focus({preventScroll: true});
        });
    },

    async copyLink() {
        const link = location.href;
        try {
            await navigator.clipboard.writeText(link);
            return `<p role="status">${featviz.words.copied}</p>`;
        } catch {  // Browsers may forbid it, and all do without https.
            return `<p>${featviz.words.copy_from} <input aria-label="Link" readonly value="${link}" onfocus="this.select()"></p>`;
        }
    },

    // The file goes to the share sheet of the phone, with its recipe inside.
    async send(file) {
        const blob = await (await fetch(file.url)).blob();
        const files = [new File([blob], file.orig_name || file.url.split("/").pop(), {type: blob.type})];
        if (!navigator.canShare?.({files})) return `<p role="status">${featviz.words.no_sharing}</p>`;
        await navigator.share({files, title: document.title}).catch(() => {});
        return "";
    },
};

// A time by the clock of the browser. In a shadow root, because Gradio updates HTML by its differences and would remove the text.
customElements.define("featviz-time", class extends HTMLElement {
    static observedAttributes = ["at"];
    attributeChangedCallback() {
        const at = new Date(1000 * this.getAttribute("at")), today = at.toDateString() === new Date().toDateString();
        (this.shadowRoot ?? this.attachShadow({mode: "open"})).textContent = today
            ? at.toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"})
            : at.toLocaleDateString([], {day: "numeric", month: "short"});
    }
});

// Seconds that count down until the server says something new.
customElements.define("featviz-seconds", class extends HTMLElement {
    static observedAttributes = ["left"];
    attributeChangedCallback() {
        this.end = performance.now() + 1000 * this.getAttribute("left");
        this.show();
    }
    connectedCallback() {
        this.timer = setInterval(() => this.show(), 1000);
    }
    disconnectedCallback() {
        clearInterval(this.timer);
    }
    show() {
        const root = this.shadowRoot ?? this.attachShadow({mode: "open"});
        root.textContent = Math.max(1, Math.round((this.end - performance.now()) / 1000));
    }
});

// A number that is not accepted is not clamped: the previous value comes back, with a sentence.
(() => {
    const numeric = target => target instanceof HTMLInputElement && target.type === "number";
    const refused = ({value, validity}) => value === "" || validity.badInput || validity.rangeUnderflow || validity.rangeOverflow;
    const block = input => input.closest(".block");
    const before = new WeakMap(), typed = new WeakMap();
    // Gradio 6.31 gives each radio button a name of its own, so that the arrow keys do not reach the others of its group.
    document.addEventListener("focusin", ({target}) => {
        if (target.type !== "radio") return;
        const radios = target.closest("fieldset").querySelectorAll("input[type=radio]");
        radios.forEach(radio => { radio.name = radios[0].name; });
    });
    document.addEventListener("focusin", ({target}) => {
        if (!numeric(target)) return;
        const most = block(target)?.className.match(/up-to-(\S+)/);  // The slider beside it ends earlier.
        if (most) target.max = most[1];
        if (!refused(target)) before.set(target, target.value);
    });
    // Gradio 6.31 opens a long list near its end. Scroll to the chosen option until the visitor acts.
    document.addEventListener("focusin", ({target}) => {
        if (target.getAttribute("role") !== "combobox" && target.getAttribute("role") !== "listbox") return;
        let frames = 60;
        const stop = () => { frames = 0; };
        ["wheel", "keydown", "pointerdown"].forEach(type => document.addEventListener(type, stop, {once: true, capture: true}));
        const scroll = () => {
            if (frames-- <= 0) return;
            const list = document.getElementById(target.getAttribute("aria-controls"));
            const chosen = list?.querySelector("[aria-selected=true]");
            if (chosen) list.scrollTop = chosen.offsetTop - (list.clientHeight - chosen.offsetHeight) / 2;
            requestAnimationFrame(scroll);
        };
        requestAnimationFrame(scroll);
    });
    // Text that is no number yet, such as "1e" on the way to 1e9, has the value "". Gradio would write its own value into the box.
    document.addEventListener("input", event => {
        if (!numeric(event.target)) return;
        typed.set(event.target, event.target.value);
        if (event.target.validity.badInput) event.stopImmediatePropagation();
    }, true);
    document.addEventListener("input", ({target}) => block(target)?.querySelector(".refused")?.remove());
    const restore = input => {
        const {min, max} = input, kept = before.get(input), value = typed.get(input); // Gradio may have rewritten 1e9 as 1000000000.
        const range = min && max ? featviz.say("refused_range", {min, max}) : min ? featviz.say("refused_least", {min}) : "";
        input.value = kept;
        input.dispatchEvent(new Event("input", {bubbles: true}));
        const sentence = Object.assign(document.createElement("p"), {
            className: "refused",
            textContent: featviz.say("refused", {value: value || "–", range, kept}),
        });
        sentence.setAttribute("role", "status");
        block(input)?.append(sentence);
    };
    // In the capture phase, because Gradio sets its own value when the event arrives: at most the end of the slider.
    document.addEventListener("blur", event => {
        const {target} = event;
        if (!numeric(target) || !before.has(target)) return;
        if (refused(target)) restore(target);
        if (+target.value > block(target)?.querySelector("input[type=range]")?.max) event.stopImmediatePropagation();
    }, true);
})();
