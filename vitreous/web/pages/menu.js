// A button that opens a menu: arrows move in it, Escape and leaving it close it.
export class Menu {
  constructor(button, menu) {
    Object.assign(this, {button, menu, all: [...menu.querySelectorAll("[role=menuitem]")]});
    button.addEventListener("click", () => this.show(menu.hidden));
    button.addEventListener("keydown", event => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      event.preventDefault();
      this.show(true, event.key === "ArrowUp" ? -1 : 0);
    });
    menu.addEventListener("keydown", event => this.onKey(event));
    menu.addEventListener("click", event => { if (event.target.closest("[role=menuitem]")) this.show(false); });
    menu.parentElement.addEventListener("focusout", event => {
      if (!menu.parentElement.contains(event.relatedTarget)) this.show(false, null);
    });
  }

  get items() { return this.all.filter(item => !item.hidden); }

  show(isOpen, item = 0) {
    const hadFocus = this.menu.contains(document.activeElement);
    this.menu.hidden = !isOpen;
    this.button.ariaExpanded = isOpen;
    if (isOpen) this.items.at(item).focus();
    else if (hadFocus && item !== null) this.button.focus();
  }

  onKey(event) {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key], last = this.items.length - 1, edge = {Home: 0, End: last}[event.key];
    if (event.key === "Escape") this.show(false);
    else if (step || edge !== undefined) this.items[edge ?? (this.items.indexOf(document.activeElement) + step + last + 1) % (last + 1)].focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
