/** A part of the page that is shown alone. */
export interface View {
  readonly element: HTMLElement;
  /** The model has changed, or the view has come up. */
  show(): void;
  /** The view goes. */
  leave?(): void;
}

/** The address of a channel's view. */
export function channelHref(name: string): string {
  return `#/channels/${encodeURIComponent(name)}`;
}

/** The address of a list of connections. */
export function connectionsHref(text: string): string {
  return `#/connections?${new URLSearchParams({ text }).toString()}`;
}
