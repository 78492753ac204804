/**
 * A cable between the page and the server that can be cut: while it is, nothing opens. The client library takes the
 * WebSocket constructor, `fetch` and what tells that the device is back as options, and knows nothing of cables.
 */
export class Cable extends EventTarget {
  #cutAt;
  #restoreTimer;
  #wakers = new Set();

  get isCut() {
    return this.#cutAt !== undefined;
  }

  /** Seconds until it is restored by itself. */
  get secondsLeft() {
    return this.isCut ? Math.max(0, Math.ceil((this.#cutAt - Date.now()) / 1000)) : 0;
  }

  cut(forMs) {
    if (this.isCut) return;
    this.#cutAt = Date.now() + forMs;
    this.#restoreTimer = setTimeout(() => this.restore(), forMs);
    this.dispatchEvent(new Event('change'));
  }

  restore() {
    if (!this.isCut) return;
    this.#cutAt = undefined;
    clearTimeout(this.#restoreTimer);
    this.dispatchEvent(new Event('change'));
    for (const wake of this.#wakers) wake();
  }

  /** Options of a RealtimeClient that runs through this cable. */
  get options() {
    const cable = this;
    return {
      WebSocket: class {
        constructor(url) {
          return cable.isCut ? new DeadSocket() : new WebSocket(url);
        }
      },
      fetch: (input, init) => (cable.isCut ? Promise.reject(new TypeError('The cable is cut')) : fetch(input, init)),
      wakeUps: (wake) => {
        const onVisible = () => document.visibilityState === 'visible' && wake();
        cable.#wakers.add(wake);
        addEventListener('online', wake);
        document.addEventListener('visibilitychange', onVisible);
        return () => {
          cable.#wakers.delete(wake);
          removeEventListener('online', wake);
          document.removeEventListener('visibilitychange', onVisible);
        };
      },
    };
  }
}

/** What a WebSocket does without a network. */
class DeadSocket {
  constructor() {
    setTimeout(() => this.onclose?.({ code: 1006, reason: '' }), 50);
  }
  send() {}
  close() {}
}

/** How long a cut lasts unless it is ended before. */
export const CUT_MS = 15_000;

/** Makes a button cut and restore the cable. */
export function bindCutButton(button, cable, onCut) {
  let countdown;
  const show = () => {
    button.textContent = cable.isCut ? `Restore (${cable.secondsLeft} s)` : 'Cut the connection';
    button.classList.toggle('is-cut', cable.isCut);
  };
  button.addEventListener('click', () => (cable.isCut ? cable.restore() : cable.cut(CUT_MS)));
  cable.addEventListener('change', () => {
    clearInterval(countdown);
    if (cable.isCut) {
      countdown = setInterval(show, 250);
      onCut();
    }
    show();
  });
}
