// The game: ten rounds that the server sends at once. It stays as it is while another tab is open. `element`, `props`, `server` and
// `watch` are those of Gradio's HTML component.
featviz.game = (element, props, server, watch) => {
    const {make} = featviz;
    const words = (key, values = {}) => featviz.say(`game_${key}`, values);
    const percent = share => `${(100 * share).toFixed(0)} %`;

    let opened = false, picture = null, seed = -1, game = null, number = 0, score = 0, chosen = [], asked = 0;

    const progress = make("p", {className: "note"}), question = make("h3", {tabIndex: -1}), thumbnail = make("img", {alt: ""}), kind = make("p", {className: "note kind"});
    const choices = [0, 1].map(i => make("button", {type: "button", className: "choice"}));
    const answer = make("p", {className: "result"}), next = make("button", {type: "button", className: "next"});
    const root = make("div", {className: "lesson game"}, progress, question, make("div", {className: "wanted"}, kind, thumbnail),
        make("div", {className: "choices"}, ...choices), answer, next);
    answer.setAttribute("role", "status");
    element.replaceChildren(root);

    const begin = async () => {
        const mine = ++asked;
        [opened, root.dataset.state] = [true, "loading"];
        progress.textContent = featviz.words.lesson_computing;
        const sent = {picture: picture && {path: picture.path}, seed: ++seed};
        const got = await featviz.answer(server.game_rounds(sent));
        if (mine !== asked) return; // The picture was changed meanwhile.
        if (got.error) {
            [opened, seed, root.dataset.state] = [false, seed - 1, "failed"];
            progress.textContent = got.error;
            next.textContent = words("again");
            return;
        }
        [game, number, score, chosen] = [got, 0, 0, []];
        ask();
    };
    const ask = () => {
        const {layer, channel, thumbnail: source, kind: shown, pictures} = game.rounds[number];
        root.dataset.state = "asked";
        progress.textContent = words("progress", {round: number + 1, rounds: game.rounds.length, score});
        question.textContent = words("question", {channel, layer});
        thumbnail.src = source;
        kind.textContent = words(shown);
        choices.forEach((button, i) => {
            button.disabled = false;
            button.className = "choice";
            button.title = words(i ? "second" : "first");
            button.replaceChildren(make("img", {src: game.pictures[pictures[i]], alt: ""}));
        });
        answer.textContent = "";
    };
    const guess = choice => {
        const {activations} = game.rounds[number], more = activations[0] > activations[1] ? 0 : 1, right = choice === more;
        chosen.push(choice);
        score += right;
        number++;
        const last = number === game.rounds.length;
        root.dataset.state = last ? "ended" : "answered";
        choices.forEach((button, i) => {
            button.disabled = true;
            button.classList.add(i === more ? "more" : "less");
            button.append(make("span", {textContent: percent(activations[i])}));
        });
        answer.textContent = words(right ? "right" : "wrong") + (last ? ` ${verdict()}` : "");
        progress.textContent = words("progress", {round: number, rounds: game.rounds.length, score});
        next.textContent = words(last ? "again" : "next");
        next.focus({preventScroll: true});
        if (last && game.fixed) compare();
    };

    // The answers of all visitors to the fixed rounds, with these if they are the first of this browser.
    const compare = async () => {
        const mine = asked, counted = "featviz_game", first = localStorage.getItem(counted) === null;
        const got = await featviz.answer(server.game_answers({variant: game.variant, chosen: first ? chosen : null}));
        if (got.error) return;
        localStorage.setItem(counted, "yes");
        if (mine !== asked) return; // Another game has begun.
        const values = Object.entries(got).flatMap(([name, [right, all]]) => [[name, all ? percent(right / all) : "–"], [`${name}_answers`, all]]);
        answer.append(make("span", {className: "crowd", textContent: words("crowd", Object.fromEntries(values))}));
    };

    // The score against chance: the share of games in which guessing gets as many right, or more.
    const verdict = () => {
        const rounds = game.rounds.length, ways = [1];
        for (let k = 1; k <= rounds; k++) ways.push(ways[k - 1] * (rounds - k + 1) / k);
        const share = ways.slice(score).reduce((sum, count) => sum + count, 0) / 2 ** rounds;
        return words("score", {score, rounds, chance: rounds / 2, least: score, share: share < 0.01 ? "< 1 %" : percent(share)});
    };

    choices.forEach((button, i) => button.addEventListener("click", () => guess(i)));
    next.addEventListener("click", () => {
        if (root.dataset.state === "answered") ask();
        else begin();
        question.focus({preventScroll: true});
    });
    const start = () => {
        if (!element.offsetParent || (opened && props.value?.path === picture?.path)) return; // Another tab is open, or nothing has changed.
        [picture, seed] = [props.value ?? null, -1];
        begin();
    };
    watch("value", start);
    new IntersectionObserver(start).observe(element);
};
