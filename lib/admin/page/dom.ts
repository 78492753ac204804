/** What an element is made with: its class, attributes, and what is done on its events. */
export interface Props {
  readonly class?: string;
  readonly attrs?: Readonly<Record<string, string | undefined>>;
  readonly on?: Readonly<Record<string, (event: Event) => void>>;
}

export type Child = Node | string | undefined;

/** Makes an element. Text is text: nothing in it is read as HTML. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props | string = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  return furnish(document.createElement(tag), props, children);
}

/** Makes an element of a drawing. */
export function s<K extends keyof SVGElementTagNameMap>(
  tag: K,
  props: Props | string = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  return furnish(document.createElementNS('http://www.w3.org/2000/svg', tag), props, children);
}

function furnish<E extends Element>(element: E, props: Props | string, children: Child[]): E {
  const { class: name, attrs = {}, on = {} } = typeof props === 'string' ? { class: props } : props;
  if (name !== undefined && name !== '') element.setAttribute('class', name);
  for (const [attr, value] of Object.entries(attrs)) if (value !== undefined) element.setAttribute(attr, value);
  for (const [event, act] of Object.entries(on)) element.addEventListener(event, act);
  for (const child of children) if (child !== undefined) element.append(child);
  return element;
}

/** Changes a text only where it differs, so that what is selected stays. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets a state that the style sheet goes by. */
export function setState(element: Element, state: string): void {
  if (element.getAttribute('data-state') !== state) element.setAttribute('data-state', state);
}

/** A part of the page with a heading. */
export function panel(title: string, ...children: Child[]): HTMLElement {
  return h('section', 'panel', h('h2', {}, title), ...children);
}

/** What stands where there is nothing. */
export function empty(text: string): HTMLElement {
  return h('p', 'empty', text);
}

interface Row<T> {
  readonly element: HTMLElement;
  readonly update: (item: T) => void;
}

/** Elements for the items of a list: one that stays is updated, so that focus and scrolling stay too. */
export class Keyed<T> {
  readonly #rows = new Map<string, Row<T>>();

  constructor(
    private readonly parent: Element,
    private readonly keyOf: (item: T) => string,
    private readonly make: (item: T) => Row<T>,
  ) {}

  show(items: readonly T[]): void {
    const wanted = new Set(items.map((item) => this.keyOf(item)));
    for (const [key, { element }] of this.#rows) {
      if (wanted.has(key)) continue;
      element.remove();
      this.#rows.delete(key);
    }
    items.forEach((item, i) => {
      const key = this.keyOf(item);
      let row = this.#rows.get(key);
      if (row === undefined) this.#rows.set(key, (row = this.make(item)));
      row.update(item);
      const there = this.parent.children[i];
      if (there !== row.element) this.parent.insertBefore(row.element, there ?? null);
    });
  }
}
