/** Calls `fn` when the device comes back: online again, or the page visible again. Returns what stops it. */
export function browserWakeUps(fn: () => void): () => void {
  const page = (globalThis as { document?: Document }).document;
  const window = globalThis as Partial<Pick<Window, 'addEventListener'>>;
  const stop = new AbortController();
  const onVisible = () => {
    if (page?.visibilityState === 'visible') fn();
  };
  window.addEventListener?.('online', fn, stop);
  page?.addEventListener('visibilitychange', onVisible, stop);
  return () => stop.abort();
}
