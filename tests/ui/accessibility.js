// Questions about the page that is open, by WCAG 2.2.
({
    // Controls without a name (4.1.2).
    nameless: () => [...document.querySelectorAll('button, input:not([type=file]), select, textarea, a[href], [role=slider]')]
        .filter(control => control.checkVisibility({visibilityProperty: true}))
        .filter(control => !(control.ariaLabel || control.textContent.trim() || control.title || control.labels?.length
            || control.getAttribute('aria-labelledby')))
        .map(control => control.outerHTML.slice(0, 200)),

    // Whether a control with the focus has a ring (2.4.7).
    ring: control => [control, control.closest('.wrap')].some(part => part && getComputedStyle(part).outlineStyle === 'solid'),

    // Words with too little contrast (1.4.3, AA), with their share of the least that is accepted.
    pale: () => {
        const rgba = colour => [...colour.match(/[\d.]+/g).map(Number), 1].slice(0, 4);
        const luminance = colour => colour.slice(0, 3).map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
            .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = element => {
            for (let at = element; at; at = at.parentElement) {
                const colour = rgba(getComputedStyle(at).backgroundColor);
                if (colour[3] > 0.9) return colour;
            }
            return [255, 255, 255];
        };
        return [...document.querySelectorAll('main *')]
            .filter(element => element.checkVisibility({visibilityProperty: true}) && !element.closest('[disabled]'))
            .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && /[\p{L}\p{N}]/u.test(node.textContent)))
            .map(element => {
                const style = getComputedStyle(element), size = parseFloat(style.fontSize);
                const [dark, bright] = [luminance(rgba(style.color)), luminance(behind(element))].sort((a, b) => a - b);
                const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
                return [(bright + 0.05) / (dark + 0.05) / least, element.textContent.trim().slice(0, 40)];
            })
            .filter(([enough]) => enough < 1);
    },
})
