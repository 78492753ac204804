/**
 * Who this page is, where the server demands tokens: it asks for one with a name, and again whenever the client wants a
 * newer one.
 */
export class Session {
  renewals = -1;
  expiresAt = 0;
  /** Whether the old token is shown again instead of a new one, so that its end can be watched. */
  expires = false;
  #name;
  #token;
  /** Two clients share the session: who asks a little later gets the same token. */
  #freshUntil = 0;
  #fetching;

  constructor(name) {
    this.#name = name;
  }

  /** Whether the server demands tokens. */
  static async required() {
    return (await (await fetch('/session')).json()).required;
  }

  /** What the client asks for a token: at first, before one ends, and when one was refused. */
  async token() {
    if (this.#token && (this.expires || Date.now() < this.#freshUntil)) return this.#token;
    return (this.#fetching ??= this.#fetch().finally(() => (this.#fetching = undefined)));
  }

  async #fetch() {
    const response = await fetch('/session', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: this.#name }),
    });
    if (!response.ok) throw new Error(`The sign-in failed with ${response.status}`);
    const { token, expiresAt } = await response.json();
    this.#token = token;
    this.#freshUntil = (Date.now() + expiresAt) / 2;
    this.expiresAt = expiresAt;
    this.renewals++;
    return token;
  }
}

/** The line that tells how long the token lasts, and lets one watch its end. */
export class SessionLine {
  #line = document.querySelector('#session');
  #button = this.#line.querySelector('button');
  #session;
  #ended;

  /** @param {() => void} signInAgain */
  constructor(signInAgain) {
    this.#line.hidden = false;
    this.#button.addEventListener('click', () => {
      if (this.#ended) signInAgain();
      else this.#session.expires = !this.#session.expires;
      this.#show();
    });
    setInterval(() => this.#show(), 250);
  }

  follow(session) {
    this.#session = session;
    this.#ended = undefined;
    this.#show();
  }

  /** The server has ended the connection. */
  ended(reason) {
    this.#ended = reason;
    this.#show();
  }

  #show() {
    const { expires, expiresAt, renewals } = this.#session;
    const seconds = Math.round((expiresAt - Date.now()) / 1000);
    const left =
      expiresAt === 0 ? 'token is fetched' : seconds >= 0 ? `token ends in ${clock(seconds)}` : 'token has ended';
    const renewed = renewals > 0 ? `renewed ${renewals} ${renewals === 1 ? 'time' : 'times'}` : 'not renewed yet';
    const over = this.#ended || (expiresAt > 0 && seconds < 0);
    this.#line.querySelector('.dot').dataset.state = over ? 'suspended' : expires ? 'waiting' : 'open';
    this.#line.querySelector('.session-facts').textContent = this.#ended
      ? `connection closed: ${this.#ended}`
      : `${left} · ${expires ? 'not renewed any more' : renewed}`;
    this.#button.textContent = this.#ended ? 'Sign in again' : expires ? 'Renew it' : 'Let it expire';
  }
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}
