// Prediction and controls: they show a view, and report what a person changes in it.
import {TURNS, at, made} from "./dom.js";
import {whenReleased} from "./presses.js";
import {IN_BROWSER, hasTarget, isText, tokenName} from "./view.js";

export const percent = fraction => `${(100 * fraction).toFixed(1)} %`;

export function addPrediction(explorer) {
  explorer.on("view", () => whenReleased(at("bars"), () => explorer.observed && showPrediction(explorer)));
  let pane; // the one that was active when the text was typed
  at("text-target").addEventListener("input", () => { ({pane} = explorer); });
  at("text-target").addEventListener("change", () => {
    const text = at("text-target").value.trim();
    (pane ?? explorer.pane).change({target: text && `text:${text}`, contrast: ""});
  });
}

function showPrediction(explorer) {
  const {view, method, model, observed, image: {truth}} = explorer, onExplain = target => explorer.change({target});
  const {scores, problem_type} = observed.prediction, isRegression = problem_type === "regression";
  const best = scores.slice(0, 5), rest = scores.slice(5).filter(([label]) => [truth, view.target, view.contrast].includes(label));
  const top = isRegression ? Math.max(...scores.map(([, score]) => Math.abs(score))) || 1 : 1;
  const focused = [...at("bars").children].indexOf(document.activeElement?.parentElement);
  at("bars").replaceChildren(...[...best, ...rest].map(([label, score]) => {
    const bar = made("i"), isChosen = view.target === label;
    bar.style.width = `${100 * Math.abs(score) / top}%`;
    return made("li", {}, made("button", {title: `Explain ${label}`, ariaPressed: isChosen, onclick: () => onExplain(isChosen ? "" : label)}, bar,
      made("span", {className: "cut", textContent: label}),
      made("span", {className: "score", textContent: isRegression ? score.toPrecision(3) : percent(score)})));
  }));
  at("bars").children[focused]?.firstChild.focus();
  const line = at("truth"), isTruth = name => name.normalize() === truth?.normalize();
  line.className = !scores.length || !model.class_names.some(isTruth) ? "" : isTruth(scores[0][0]) ? "correct" : "wrong";
  line.textContent = !truth || !scores.length ? "" : {correct: `✓ ${truth} is the true class`, wrong: `✗ the true class is ${truth}`}[line.className]
    ?? `true class ${truth}, which this model doesn't have`;
  at("target").hidden = scores.length < 2 || isRegression;
  at("text-row").hidden = !model.takes_text;
  if (document.activeElement !== at("text-target")) at("text-target").value = isText(view.target) ? view.target.slice(5) : "";
  at("target-note").textContent = model.takes_text ? "This model compares images with texts: say what to look for." : !scores.length ? "This model has no classes, only features."
    : method.is_class_specific ? "" : `${view.method} is the same for every class; choosing one changes to gradient-rollout.`;
  fillOptions(at("target-class"), `${scores[0]?.[0] ?? ""} (predicted)`, model.class_names, view.target);
  fillOptions(at("target-contrast"), "anything else", model.class_names, view.contrast);
}

function fillOptions(select, none, names, chosen) {
  const key = JSON.stringify([none, names]);
  if (select.dataset.key !== key) {
    select.replaceChildren(new Option(none, ""), ...names.map(name => new Option(name, name)));
    select.dataset.key = key;
  }
  select.value = chosen;
}

export function addControls(explorer) {
  const {start, view, palettes} = explorer;
  const controls = new Controls(start.methods, palettes, fields => explorer.change(fields));
  at("model").append(...start.models.map((model, index) => new Option(model.name, index)));
  at("model").value = view.model;
  at("model").addEventListener("change", () => explorer.changeModel(Number(at("model").value)));
  for (const event of ["pane", "view"]) explorer.on(event, () => { at("model").value = explorer.view.model; });
  explorer.on("view", () => controls.show(explorer.view, explorer.attention));
}

class Controls {
  // `change` gets the fields of the view that a person has changed.
  constructor(methods, palettes, change) {
    this.methods = methods;
    this.change = change;
    const group = (label, names) => made("optgroup", {label}, ...names.map(name => new Option(name, name)));
    const others = Object.keys(methods).filter(name => !IN_BROWSER.includes(name));
    at("method").append(group("At once, in this page", IN_BROWSER), group("By the model, on the server", others));
    at("palette").append(...palettes.names.map(name => new Option(name, name)));
    for (const [id, field] of Object.entries({method: "method", fusion: "fusion", feature: "feature", palette: "palette",
      "target-class": "target", "target-contrast": "contrast"})) {
      at(id).addEventListener("change", event => change({[field]: event.target.value}));
    }
    for (const id of ["first", "layer", "opacity"]) {
      at(id).addEventListener("input", event => change({[id]: Number(event.target.value)}));
    }
    at("direction").addEventListener("click", event => {
      if (event.target.dataset.value) change({toward: event.target.dataset.value === "to"});
    });
    for (const group of [at("direction"), at("starts")]) group.addEventListener("keydown", moveInGroup);
  }

  show(view, attention) {
    const method = this.methods[view.method], isBrowser = IN_BROWSER.includes(view.method), has = name => method.options.includes(name);
    const isRollout = view.method === "rollout";
    for (const id of ["method", "fusion", "palette", "feature"]) at(id).value = view[id];
    at("summary").textContent = method.summary.replace(/ \([^)]*\d{4}\)$/, "");
    at("direction").hidden = !isBrowser;
    for (const button of at("direction").children) {
      const isChosen = (button.dataset.value === "to") === view.toward;
      button.ariaChecked = isChosen;
      button.tabIndex = isChosen ? 0 : -1;
      button.disabled = !isChosen && !hasTarget(view, attention);
    }
    at("first-row").hidden = !isRollout;
    at("layer-row").hidden = !isRollout && !has("layer");
    at("layer-label").textContent = isRollout ? "Last layer" : "Layer";
    for (const id of ["first", "layer"]) {
      at(id).max = attention.depth - 1;
      at(id).value = view[id];
      at(`${id}-value`).textContent = view[id];
    }
    at("feature-row").hidden = !has("view");
    at("fusion-row").hidden = !isBrowser || view.heads?.length === 1;
    at("opacity").value = view.opacity;
    at("opacity-value").textContent = `${view.opacity} %`;
    this.showHeads(view, attention, isBrowser || has("head"), isBrowser);
    this.showStarts(view, attention, isBrowser);
  }

  showHeads(view, attention, isUsed, canCombine) {
    at("heads-row").hidden = !isUsed;
    const count = view.method === "rollout" ? Math.max(...attention.heads) : attention.heads[view.layer];
    const chip = (textContent, ariaPressed, onclick, ariaLabel) => made("button", {textContent, onclick, ariaPressed, ariaLabel});
    const pick = (head, event) => {
      const several = (event.shiftKey || event.ctrlKey || event.metaKey) && canCombine;
      const now = view.heads ?? [], others = now.filter(one => one !== head);
      const next = several ? (others.length < now.length ? others : [...now, head].sort((a, b) => a - b))
        : now.length === 1 && now[0] === head ? [] : [head];
      this.change({heads: next.length && next.length < count ? next : null});
    };
    at("heads").title = canCombine ? "Shift and click combines several heads" : "";
    whenReleased(at("heads"), () => {
      const focused = [...at("heads").children].indexOf(document.activeElement);
      at("heads").replaceChildren(chip("all", !view.heads, () => this.change({heads: null}), "all heads"),
        ...Array.from({length: count}, (_, head) => chip(head, view.heads?.includes(head) ?? false, event => pick(head, event), `head ${head}`)));
      if (focused >= 0) at("heads").children[focused]?.focus();
    });
  }

  showStarts(view, attention, isBrowser) {
    const choices = [[tokenName(-1, attention), -1], ...Array.from({length: attention.prefix}, (_, token) => [tokenName(token, attention), token])];
    if (attention.readToken >= 0 && attention.readToken < attention.prefix) choices.splice(attention.readToken + 1, 1);
    const buttons = choices.map(([name, token]) => {
      const isChosen = !view.patch && view.token === token;
      return made("button", {textContent: name, onclick: () => this.change({token, patch: null}), role: "radio", ariaChecked: isChosen,
        tabIndex: isChosen || view.patch && token === -1 ? 0 : -1});
    });
    if (view.patch) {
      buttons.push(made("button", {textContent: `patch ${view.patch.join(", ")} ✕`, onclick: () => this.change({patch: null}), role: "radio",
        ariaChecked: true, ariaLabel: `patch in row ${view.patch[0]}, column ${view.patch[1]}: let go`}));
    }
    at("starts").hidden = !isBrowser && !view.patch;
    whenReleased(at("starts"), () => {
      const hadFocus = at("starts").contains(document.activeElement);
      at("starts").replaceChildren(...buttons);
      if (hadFocus) at("starts").querySelector("[aria-checked=true]")?.focus();
    });
  }
}

function moveInGroup(event) {
  const step = TURNS[event.key];
  if (!step) return;
  event.preventDefault();
  const buttons = [...event.currentTarget.children], now = buttons.indexOf(document.activeElement);
  const next = buttons[(now + step + buttons.length) % buttons.length];
  next.focus();
  next.click();
}
