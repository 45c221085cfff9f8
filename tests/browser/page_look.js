// What a look at a page would find, as a list of sentences. Data points in a plot may lie on each other.
() => {
  const problems = [];
  const visible = element => element.checkVisibility({opacityProperty: true, visibilityProperty: true}) &&
    !element.closest(".hidden, .skip:not(:focus), noscript, script, style, [inert]") && element.getClientRects().length > 0;
  const name = element => {
    const text = element.ariaLabel || element.textContent.trim().replace(/\s+/g, " ").slice(0, 30);
    return `${element.tagName.toLowerCase()}${element.id && `#${element.id}`}${text && ` "${text}"`}`;
  };
  const ancestors = function* (element) { for (let one = element; one; one = one.parentElement) yield one; };
  const clips = style => [style.overflowX, style.overflowY].some(value => value !== "visible");

  // The part of an element's box that its scrolling and clipping ancestors show.
  const shownBox = element => {
    let {left, top, right, bottom} = element.getBoundingClientRect();
    for (const one of ancestors(element.parentElement)) {
      if (one === document.body || one === document.documentElement || !clips(getComputedStyle(one))) continue;
      const box = one.getBoundingClientRect();
      [left, top, right, bottom] = [Math.max(left, box.left), Math.max(top, box.top), Math.min(right, box.right),
        Math.min(bottom, box.bottom)];
    }
    return {left, top, right, bottom, width: right - left, height: bottom - top};
  };

  // ---- controls: no two overlap, none is too small
  const controls = [...document.querySelectorAll(
    "a[href], button, select, input, textarea, summary, [tabindex], [role=button], [role=slider]")].filter(one =>
    visible(one) && !(one instanceof SVGElement));
  const boxes = controls.map(shownBox);
  controls.forEach((first, i) => {
    const style = getComputedStyle(first), {width, height} = first.getBoundingClientRect();
    const inText = style.display.startsWith("inline") && first.parentElement.matches("p, li, td, label");
    if (!inText && !first.closest("label") && Math.min(width, height) < 23.5) {
      problems.push(`${name(first)} is ${Math.round(width)} x ${Math.round(height)} pixels, under 24`);
    }
    controls.slice(i + 1).forEach((second, j) => {
      if (first.contains(second) || second.contains(first)) return;
      const a = boxes[i], b = boxes[i + 1 + j];
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      const isAbove = [first, second].some(one => [...ancestors(one)].some(x => getComputedStyle(x).position === "fixed"));
      if (across > 1 && down > 1 && !isAbove) problems.push(`${name(first)} overlaps ${name(second)}`);
    });
  });

  // ---- roles: a screen reader asks a grid for its cells
  for (const one of document.querySelectorAll("[role=grid], [role=treegrid], [role=table]")) {
    if (visible(one) && !one.querySelector("[role=row], tr")) problems.push(`${name(one)} is a ${one.role} without rows`);
  }

  // ---- text: none is cut, none is faint
  // Red, green and blue from 0 to 255, and opacity if there is one; color-mix() gives color(srgb 0.5 0.5 0.5).
  const numbers = text => {
    const found = text.replace(/^color\(srgb/, "").match(/[\d.]+(e-\d+)?/g).map(Number);
    return text.startsWith("color(") ? found.map((part, i) => i < 3 ? 255 * part : part) : found;
  };
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = color => color.slice(0, 3).map(v => linear(v / 255)).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const over = (top, under) => [0, 1, 2].map(i => (top[3] ?? 1) * top[i] + (1 - (top[3] ?? 1)) * under[i]);
  const contrast = (one, other) => {
    const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  };
  const paper = () => matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  // The color that is drawn behind an element: bars (an <i> under the text) count where they reach.
  const behind = (element, withBars = true) => {
    const layers = [];
    for (const one of ancestors(element)) {
      const bar = withBars && one.querySelector(":scope > i");
      for (const layer of [bar, one].filter(Boolean)) {
        const color = numbers(getComputedStyle(layer).backgroundColor);
        if (color.length < 4 || color[3] > 0) layers.push(color);
        if (color.length < 4 || color[3] === 1) return layers.reduceRight((under, top) => over(top, under), paper());
      }
    }
    return layers.reduceRight((under, top) => over(top, under), paper());
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement, words = node.data.trim().replace(/\s+/g, " ");
    if (!words || !visible(element) || element.closest("select, :disabled, [aria-disabled=true]")) continue;
    const style = getComputedStyle(element), isSvg = element instanceof SVGElement, size = parseFloat(style.fontSize);
    const needed = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700 ? 3 : 4.5;
    for (const withBars of [true, false]) {
      const under = behind(element, withBars), found = contrast(over(numbers(isSvg ? style.fill : style.color), under), under);
      if (found < needed) { problems.push(`"${words}" has a contrast of ${found.toFixed(2)}, under ${needed}`); break; }
    }
    const range = document.createRange();
    range.selectNodeContents(node);
    const text = range.getBoundingClientRect();
    for (const one of ancestors(element)) {
      if (one === document.body) {
        if (text.right + scrollX > innerWidth + 1 || text.left + scrollX < -1) problems.push(`"${words}" leaves the page`);
        break;
      }
      const own = getComputedStyle(one), box = one.getBoundingClientRect();
      if (own.position === "fixed" || own.textOverflow === "ellipsis" && own.overflowX !== "visible") break;
      if (["auto", "scroll"].includes(own.overflowX) && one.scrollWidth > one.clientWidth) break;
      const isBox = isSvg ? one.tagName === "svg" : own.overflowX !== "visible" || one.matches("button, h1, h2, h3, p, td, th, li");
      if (!isBox || own.display === "contents") continue;
      if (text.left < box.left - 1.5 || text.right > box.right + 1.5) { problems.push(`"${words}" is cut by ${name(one)}`); break; }
      if (own.overflowY === "hidden" && (text.top < box.top - 2 || text.bottom > box.bottom + 2)) {
        problems.push(`"${words}" is cut in height by ${name(one)}`);
        break;
      }
    }
  }

  // ---- the edges of what takes input, and of what is chosen
  for (const one of document.querySelectorAll("select, input, textarea, [aria-checked=true], [aria-pressed=true], [aria-selected=true]")) {
    if (!visible(one) || one instanceof SVGElement || one.matches(":disabled, [type=range], [type=checkbox], [type=radio], [type=file]")) continue;
    const style = getComputedStyle(one), outside = behind(one.parentElement);
    const edges = [parseFloat(style.borderTopWidth) ? over(numbers(style.borderTopColor), outside) : outside, behind(one, false)];
    const found = Math.max(...edges.map(edge => contrast(edge, outside)));
    if (found < 3) problems.push(`the edge of ${name(one)} has a contrast of ${found.toFixed(2)}, under 3`);
  }
  const scroller = document.scrollingElement;
  if (scroller.scrollWidth > innerWidth) problems.push(`the page is ${scroller.scrollWidth} pixels wide, the window ${innerWidth}`);
  return [...new Set(problems)];
}
