type Token = string | null | (() => string | null | Promise<string | null>);

/** Tokens fetched in a row that may be refused before the client gives up. */
const MAX_REFUSALS = 2;

/** The token in use, and when a new one is fetched. */
export class TokenSource {
  readonly #source: Token;
  #token: string | null | undefined;
  /** The token was used before: its refusal may only mean that it has become old. */
  #used = false;
  #refusals = 0;

  constructor(source: Token) {
    this.#source = source;
  }

  /** The token, fetched if there is none. Rejects with what the function throws. */
  async get(): Promise<string | null> {
    if (this.#token === undefined) {
      this.#used = false;
      this.#token = typeof this.#source === 'function' ? await this.#source() : this.#source;
    }
    return this.#token;
  }

  /** The next `get()` fetches a new one. */
  renew(): void {
    this.#token = undefined;
  }

  /** The hub took the token. */
  accepted(): void {
    this.#used = true;
    this.#refusals = 0;
  }

  /** The hub refused the token. Tells whether another try makes sense; that one fetches a new token. */
  refused(): boolean {
    if (!this.#used) this.#refusals++;
    this.renew();
    return typeof this.#source === 'function' && this.#refusals < MAX_REFUSALS;
  }
}
