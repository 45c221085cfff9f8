// Redraws of what is being pressed wait until it is let go: a click ends on the element where it began, or is lost.

const waiting = new Map(); // by element, the last redraw
let pressed = null;

// Draws the content of an element anew: now, or when a person has let go of it.
export function whenReleased(element, redraw) {
  if (pressed && element.contains(pressed)) return void waiting.set(element, redraw);
  waiting.delete(element);
  redraw();
}

addEventListener("pointerdown", event => { pressed = event.target; }, true);
for (const name of ["pointerup", "pointercancel", "contextmenu", "dragend"]) {
  addEventListener(name, () => setTimeout(() => { // after the click
    pressed = null;
    const redraws = [...waiting.values()];
    waiting.clear();
    for (const redraw of redraws) redraw();
  }), true);
}
addEventListener("blur", () => { pressed = null; });
