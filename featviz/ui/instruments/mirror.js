// The live mirror. The newest frame of the camera goes to the server, small; the next one is sent so that it arrives when the
// server has finished the one before.
featviz.mirror = (element, server, keep, {layers, layer, strength, size}) => {
    const {words} = featviz;
    element.innerHTML = `
        <button type="button" class="start">${words.mirror}</button>
        <div class="panel" role="group" aria-label="${words.mirror}" hidden>
            <img alt="${words.mirror_picture}">
            <label>${words.mirror_layer} <select></select></label>
            <label>${words.mirror_strength} <input type="range"></label>
            <button type="button" class="keep">${words.mirror_keep}</button>
            <button type="button" class="end">${words.mirror_end}</button>
        </div>
        <p role="status"></p>`;
    const [start, panel, picture, choice, slider, shutter, end, status] =
        [".start", ".panel", "img", "select", "input", ".keep", ".end", "p"].map(part => element.querySelector(part));
    choice.append(...layers.map(name => new Option(name.split("/")[1], name, false, name === layer)));
    Object.assign(slider, strength);
    const video = Object.assign(document.createElement("video"), {muted: true, playsInline: true});
    const canvas = document.createElement("canvas");
    let running = "";  // The id of the mirror that runs.
    let taken = 0;     // When the camera took the newest frame.

    const stop = sentence => {
        if (running) server.mirror_end(running).catch(() => {});
        running = "";
        video.srcObject?.getTracks().forEach(track => track.stop());
        video.srcObject = null;
        const focused = panel.contains(document.activeElement);
        panel.hidden = true;
        start.hidden = false;
        status.textContent = sentence;
        if (focused) start.focus();
    };

    // Left and right are exchanged, as in a mirror.
    const capture = () => {
        const scale = size / Math.max(video.videoWidth, video.videoHeight);
        canvas.width = Math.round(scale * video.videoWidth);
        canvas.height = Math.round(scale * video.videoHeight);
        const context = canvas.getContext("2d", {willReadFrequently: true});
        context.scale(-1, 1);
        context.drawImage(video, -canvas.width, 0, canvas.width, canvas.height);
        return canvas.toDataURL("image/jpeg", 0.85);
    };

    const show = async (source, start) => {
        picture.src = source;
        await picture.decode().catch(() => {});
        requestAnimationFrame(() => performance.measure("mirror", {start}));  // From the camera to the screen; `make bench` reads it.
    };

    const open = async () => {
        const camera = navigator.mediaDevices;  // Browsers have none without https.
        if (!camera) throw new DOMException("", "NotFoundError");
        video.srcObject = await camera.getUserMedia({video: {facingMode: "user", width: {ideal: 320}, height: {ideal: 240}, frameRate: {ideal: 15}}});
        video.srcObject.getTracks().forEach(track => { track.onended = () => stop(words.camera_missing); });
        await video.play();
        const note = (now, {captureTime}) => {
            taken = captureTime ?? now;
            if (running) video.requestVideoFrameCallback(note);
        };
        video.requestVideoFrameCallback?.(note);
    };

    const run = async id => {
        performance.clearMeasures("mirror");
        let before;           // The request before the last one: at most two are under way.
        let pause = 10_000;   // Milliseconds that the server took for the latest frame; at first a guess that is too long.
        const received = (answer, start) => {
            if (running !== id) return;
            if (answer.error) return stop(answer.error);
            if (!answer.picture) return;
            pause = 1000 * answer.seconds;
            show(answer.picture, start);
        };
        while (running === id) {
            if (document.hidden) await new Promise(shown => document.addEventListener("visibilitychange", shown, {once: true}));
            if (!panel.checkVisibility()) return stop("");  // Another tab of the page is open.
            const [start, frame] = [taken || performance.now(), capture()];
            const sent = {id, frame, layer: choice.value, strength: Number(slider.value)};
            const answer = featviz.answer(server.mirror_frame(sent), words.mirror_lost).then(answer => received(answer, start));
            await Promise.race([answer, new Promise(passed => setTimeout(passed, pause))]);
            await before;
            before = answer;
        }
    };

    start.addEventListener("click", async () => {
        start.hidden = true;
        status.textContent = words.mirror_starting;
        const id = running = crypto.getRandomValues(new Uint32Array(4)).join("-");  // Nobody else can guess it.
        const {error} = await featviz.answer(server.mirror_begin(id), words.mirror_lost);
        if (error) return stop(error);
        try {
            await open();
        } catch ({name}) {
            return stop({NotAllowedError: words.camera_refused, NotReadableError: words.camera_busy}[name] ?? words.camera_missing);
        }
        if (running !== id) return stop("");  // The page was left meanwhile.
        picture.removeAttribute("src");
        panel.hidden = false;
        status.textContent = "";
        end.focus({preventScroll: true});
        panel.scrollIntoView({behavior: "smooth", block: "nearest"});
        run(id);
    });
    end.addEventListener("click", () => stop(""));
    shutter.addEventListener("click", () => keep(running));
    addEventListener("pagehide", () => stop(""));
};
