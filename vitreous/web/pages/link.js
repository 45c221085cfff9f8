// The page's link. Browsers let pages change it only so often: Safari 100 times in 30 seconds.

const AT_ONCE = 10, EVERY_MS = 400; // writes without a pause, and then

// Returns a function that makes `fragment()` the link: at once, or after many writes when there is time for another one,
// with what it is then. Whoever leaves the page meanwhile finds the last state.
export function keepLink(fragment) {
  let free = AT_ONCE, counted = 0, timer = null;
  const forget = () => { clearTimeout(timer); timer = null; };
  const write = () => {
    forget();
    const link = `#${fragment()}`;
    if (link === location.hash) return;
    history.replaceState(null, "", link);
    free -= 1;
  };
  addEventListener("pagehide", () => { if (timer !== null) write(); });
  addEventListener("hashchange", forget); // a person has changed it
  return () => {
    const now = performance.now();
    free = Math.min(AT_ONCE, free + (now - counted) / EVERY_MS);
    counted = now;
    if (free >= 1) write();
    else timer ??= setTimeout(write, (1 - free) * EVERY_MS);
  };
}
