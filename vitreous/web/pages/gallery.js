// The images of the data set: a strip of small ones with truth and prediction, and its filters.
import {getJson, imageUrl} from "./api.js";
import {at, inside, made} from "./dom.js";
import {showError} from "./notices.js";
import {whenReleased} from "./presses.js";

const FILTERS = ["order", "class", "search"]; // their names in the link

export function addGallery(explorer) {
  if (!explorer.start.gallery) return;
  const gallery = explorer.gallery = new Gallery(explorer);
  explorer.on("image", () => gallery.choose(explorer.view.image));
  explorer.on("model", () => { gallery.offerText(); gallery.load(); });
  gallery.offerText();
  gallery.load().then(() => explorer.view.image || explorer.camera.isRunning || gallery.items[0] && gallery.open(gallery.items[0]));
}

class Gallery {
  constructor(explorer) {
    const {class_names} = explorer.start.gallery;
    this.explorer = explorer;
    this.items = [];
    at("gallery-class").append(...class_names.map(name => new Option(name, name)));
    this.restore(new URLSearchParams(location.hash.slice(1)));
    for (const id of ["gallery-order", "gallery-class"]) at(id).addEventListener("change", () => { this.offerText(); this.filter(); });
    at("gallery-search").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.filter(), 200);
    });
    at("strip").addEventListener("keydown", event => this.onKey(event));
    at("strip").addEventListener("scroll", () => this.onScroll());
    at("gallery").hidden = false;
  }

  // Takes the filters from a link; what can't be chosen is as at first.
  restore(parts) {
    for (const name of FILTERS) {
      const field = at(`gallery-${name}`);
      if (parts.has(name)) field.value = parts.get(name).slice(0, 300);
      if (field.selectedIndex < 0) field.selectedIndex = 0;
    }
    this.isText = at("gallery-order").value === "text";
  }

  // What differs from the beginning, as it is in the link.
  toLink() {
    const chosen = FILTERS.map(name => [name, at(`gallery-${name}`).value.trim()]);
    return new URLSearchParams(chosen.filter(([, value]) => value && value !== "stored")).toString();
  }

  filter() {
    this.explorer.writeLink();
    return this.load();
  }

  // Image-text models sort by a text.
  offerText() {
    const takesText = this.explorer.model.takes_text, order = at("gallery-order");
    at("order-text").hidden = !takesText;
    if (!takesText && order.value === "text") order.value = "stored";
    const isText = order.value === "text", field = at("gallery-search");
    if (isText !== this.isText) field.value = ""; // a name is no text, and a text no name
    this.isText = isText;
    field.placeholder = isText ? "a photo of a cat" : "name or class";
  }

  open({image}) {
    this.choose(image);
    this.explorer.openStored(image);
  }

  async load(offset = 0) {
    const order = at("gallery-order").value, label = at("gallery-class").value, search = at("gallery-search").value.trim();
    const query = new URLSearchParams({model: this.explorer.view.model, order, offset,
      ...(label ? {class: label} : {}), ...(search ? {search} : {})});
    const run = this.run = Symbol(query);
    clearTimeout(this.timer);
    try {
      const found = await getJson(`/api/gallery?${query}`);
      if (run !== this.run) return;
      this.total = found.total;
      this.items = offset ? [...this.items, ...found.items] : found.items;
      const draw = () => this.draw(found, offset);
      offset ? draw() : whenReleased(at("strip"), draw);
      // The server predicts the images while nobody waits; what the filters find grows with it.
      if (found.scored < found.count) this.timer = setTimeout(() => this.refresh(), 2500);
    } catch (error) {
      showError(error);
    }
  }

  refresh() {
    if (document.hidden) this.timer = setTimeout(() => this.refresh(), 2500);
    else if (this.items.length <= 200) this.load();
  }

  draw({items, total, scored, count}, offset) {
    const strip = at("strip"), scrolled = strip.scrollLeft;
    const buttons = items.map(item => this.button(item));
    if (offset) strip.append(...buttons);
    else strip.replaceChildren(...buttons);
    if (!total) {
      strip.append(made("p", {textContent: scored < count
        ? "None so far: the model is going through the images." : "No image fits."}));
    }
    strip.scrollLeft = scrolled;
    const progress = scored < count ? `, ${scored.toLocaleString("en")} of ${count.toLocaleString("en")} predicted` : "";
    at("gallery-count").textContent = `${total.toLocaleString("en")} image${total === 1 ? "" : "s"}${progress}`;
    this.choose(this.chosen);
  }

  button({image, name, truth, prediction, is_correct, similarity}) {
    const picture = made("img", {loading: "lazy", src: imageUrl(image, "thumbnail"), alt: "", width: 76, height: 62});
    picture.addEventListener("load", () => picture.classList.toggle("pixels", picture.naturalWidth < 76));
    const lines = [[truth], ...similarity === null ? [] : [[similarity.toFixed(3)]]];
    if (is_correct === false) lines.push([`✗ ${prediction[0]}`, "cut wrong"]);
    else if (is_correct) lines.push([`✓ ${Math.round(100 * prediction[1])} %`]);
    const button = made("button", {role: "option", tabIndex: -1, id: `strip-${image}`,
      title: `${name}: ${truth}${prediction ? `, predicted ${prediction[0]} ${Math.round(100 * prediction[1])} %` : ""}`,
      onclick: () => {
        at("strip").focus({preventScroll: true}); // its buttons are drawn anew
        this.open({image});
      }}, picture, ...lines.map(([textContent, className = "cut"]) => made("span", {textContent, className})));
    button.dataset.image = image;
    return button;
  }

  choose(image) {
    this.chosen = image;
    for (const button of at("strip").querySelectorAll("button")) {
      button.ariaSelected = button.dataset.image === image;
    }
    at("strip").setAttribute("aria-activedescendant", `strip-${image}`);
  }

  onKey(event) {
    const step = {ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity}[event.key];
    if (!step || !this.items.length) return;
    event.preventDefault();
    const now = this.items.findIndex(item => item.image === this.chosen);
    const next = this.items[inside(now + step, this.items.length)];
    this.open(next);
    at("strip").querySelector(`[data-image="${CSS.escape(next.image)}"]`)?.scrollIntoView({inline: "nearest", block: "nearest"});
  }

  onScroll() {
    const strip = at("strip");
    if (strip.scrollLeft + strip.clientWidth > strip.scrollWidth - 300 && this.items.length < this.total && !this.loading) {
      this.loading = true;
      this.load(this.items.length).finally(() => { this.loading = false; });
    }
  }
}
