import { h, s, setText } from './dom.js';

const WIDTH = 300;
const HEIGHT = 100;
/** Room above the highest value. */
const TOP = 8;

/** What a chart shows: lines, the first one filled. */
export interface Line {
  readonly name: string;
  readonly values: readonly (number | undefined)[];
}

/** A chart of the last five minutes, with what each line is now, or where the pointer is. */
export class Chart {
  readonly element: HTMLElement;
  readonly #legend = h('ul', 'legend');
  readonly #top = h('span', 'top');
  readonly #when = h('span', 'when');
  readonly #nothing = h('p', 'nothing', 'Nothing yet');
  readonly #cursor = s('line', { class: 'cursor', attrs: { y1: '0', y2: String(HEIGHT) } });
  readonly #paths: SVGPathElement[];
  readonly #area = s('path', 'area');
  readonly #plot: HTMLElement;
  readonly #values: HTMLElement[];
  #lines: readonly Line[] = [];
  #at: number | undefined;

  constructor(
    private readonly title: string,
    names: readonly string[],
    private readonly format: (value: number) => string,
    private readonly intervalMs: () => number,
  ) {
    this.#paths = names.map((_, i) => s('path', `line series-${i}`));
    this.#values = names.map(() => h('b', {}, '–'));
    names.forEach((name, i) => this.#legend.append(h('li', `series-${i}`, h('i'), name, ' ', this.#values[i])));
    const grid = [1, 2, 3].map((n) => {
      const y = String(HEIGHT - ((HEIGHT - TOP) / 3) * n);
      return s('line', { class: 'grid', attrs: { x1: '0', x2: String(WIDTH), y1: y, y2: y } });
    });
    const drawing = s(
      'svg',
      { attrs: { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' } },
      ...grid,
      this.#area,
      ...this.#paths,
      this.#cursor,
    );
    const on = {
      pointermove: (event: Event) => this.#point(event as PointerEvent),
      pointerdown: (event: Event) => this.#point(event as PointerEvent),
      pointerleave: () => this.#leave(),
    };
    this.#plot = h('div', { class: 'plot', attrs: { role: 'img' }, on }, drawing, this.#top, this.#nothing);
    this.element = h(
      'section',
      'panel chart',
      h('h2', {}, title),
      this.#legend,
      this.#plot,
      h('p', 'axis', h('span', {}, '5 min ago'), this.#when, h('span', {}, 'now')),
    );
    this.#cursor.setAttribute('visibility', 'hidden');
  }

  show(lines: readonly Line[]): void {
    this.#lines = lines;
    const known = lines.flatMap(({ values }) => values).filter((value) => value !== undefined);
    const top = roundUp(Math.max(0, ...known));
    this.#nothing.hidden = known.length > 0;
    setText(this.#top, known.length === 0 ? '' : this.format(top));
    const y = (value: number): number => HEIGHT - (value / top) * (HEIGHT - TOP);
    lines.forEach(({ values }, i) => this.#paths[i]!.setAttribute('d', pathOf(values, y)));
    this.#area.setAttribute('d', areaOf(lines[0]?.values ?? [], y));
    this.#tell();
  }

  #tell(): void {
    const at = this.#at;
    this.#values.forEach((element, i) => {
      const values = this.#lines[i]?.values ?? [];
      const value = at === undefined ? values.findLast((each) => each !== undefined) : values[at];
      setText(element, value === undefined ? '–' : this.format(value));
    });
    const last = (this.#lines[0]?.values.length ?? 1) - 1;
    const seconds = at === undefined ? 0 : Math.round(((last - at) * this.intervalMs()) / 1_000);
    setText(this.#when, at === undefined ? '' : `${seconds} s ago`);
    const told = this.#lines.map(({ name }, i) => `${name} ${this.#values[i]!.textContent}`).join(', ');
    this.#plot.setAttribute('aria-label', `${this.title}: ${told}`);
  }

  #point({ clientX }: PointerEvent): void {
    const { left, width } = this.#plot.getBoundingClientRect();
    const last = (this.#lines[0]?.values.length ?? 0) - 1;
    if (last < 1 || width === 0) return;
    this.#at = Math.min(last, Math.max(0, Math.round(((clientX - left) / width) * last)));
    const x = String((this.#at / last) * WIDTH);
    this.#cursor.setAttribute('x1', x);
    this.#cursor.setAttribute('x2', x);
    this.#cursor.setAttribute('visibility', 'visible');
    this.#tell();
  }

  #leave(): void {
    this.#at = undefined;
    this.#cursor.setAttribute('visibility', 'hidden');
    this.#tell();
  }
}

function xOf(i: number, values: readonly unknown[]): string {
  return ((i / Math.max(1, values.length - 1)) * WIDTH).toFixed(1);
}

function pathOf(values: readonly (number | undefined)[], y: (value: number) => number): string {
  let path = '';
  values.forEach((value, i) => {
    if (value === undefined) return;
    path += `${values[i - 1] === undefined ? 'M' : 'L'}${xOf(i, values)} ${y(value).toFixed(1)}`;
    if (values[i - 1] === undefined && values[i + 1] === undefined) path += 'h0.5'; // one alone is a dot
  });
  return path;
}

function areaOf(values: readonly (number | undefined)[], y: (value: number) => number): string {
  let path = '';
  values.forEach((value, i) => {
    if (value === undefined) return;
    if (values[i - 1] === undefined) path += `M${xOf(i, values)} ${HEIGHT}`;
    path += `L${xOf(i, values)} ${y(value).toFixed(1)}`;
    if (values[i + 1] === undefined) path += `L${xOf(i, values)} ${HEIGHT}Z`;
  });
  return path;
}

/** 1, 2 or 5 times a power of ten, not below. */
function roundUp(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5].find((step) => step * power >= value) ?? 10) * power;
}
