const WINDOW_MS = 15_000;
const LATE_MS = 1_000;

/**
 * The publications of one channel as ticks on a strip of time. What was missed and recovered stands where it was
 * published: in the time of the outage, in another colour.
 */
export class Lane {
  #canvas;
  #marks = [];
  #outages = [];
  /** Between the server's clock and ours: the smallest difference seen. */
  #skewMs = Infinity;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  mark(publishedAt, recovered) {
    const now = Date.now();
    if (!recovered) this.#skewMs = Math.min(this.#skewMs, now - publishedAt);
    const skew = this.#skewMs === Infinity ? 0 : this.#skewMs;
    this.#marks.push({ at: Math.min(now, publishedAt + skew), recovered });
  }

  outageBegan() {
    this.#outages.push({ from: Date.now(), to: Infinity });
  }

  outageEnded() {
    const last = this.#outages.at(-1);
    if (last) last.to = Math.min(last.to, Date.now());
  }

  draw(now, colours) {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0) return;
    const ratio = devicePixelRatio;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const since = now - WINDOW_MS;
    this.#marks = this.#marks.filter(({ at }) => at > since - LATE_MS);
    this.#outages = this.#outages.filter(({ to }) => to > since);

    const g = canvas.getContext('2d');
    const x = (at) => ((at - since) / WINDOW_MS) * width;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    g.fillStyle = colours.track;
    g.fillRect(0, height / 2 - 0.5, width, 1);
    for (const { from, to } of this.#outages) {
      const left = Math.max(0, x(from));
      const right = Math.min(width, x(Math.min(to, now)));
      g.fillStyle = colours.outage;
      g.fillRect(left, 0, right - left, height);
    }
    for (const { at, recovered } of this.#marks) {
      const tall = recovered ? height : height * 0.62;
      g.fillStyle = recovered ? colours.recovered : colours.live;
      const wide = recovered ? 1.5 : 1;
      g.fillRect(x(at) - wide / 2, (height - tall) / 2, wide, tall);
    }
  }
}

const lanes = new Set();
const dark = matchMedia('(prefers-color-scheme: dark)');
const calm = matchMedia('(prefers-reduced-motion: reduce)');
let colours;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  colours = {
    track: colour('--line'),
    live: colour('--tick'),
    recovered: colour('--ok'),
    outage: colour('--outage'),
  };
}

let drawnAt = 0;
function drawAll() {
  const now = Date.now();
  if (now - drawnAt >= (calm.matches ? 1_000 : 33)) {
    drawnAt = now;
    for (const lane of lanes) lane.draw(now, colours);
  }
  requestAnimationFrame(drawAll);
}

/** Adds a lane to those that are drawn; returns what removes it. */
export function follow(lane) {
  if (!colours) {
    readColours();
    dark.addEventListener('change', readColours);
    requestAnimationFrame(drawAll);
  }
  lanes.add(lane);
  return () => lanes.delete(lane);
}
