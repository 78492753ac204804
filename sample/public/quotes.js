const POINTS = 60;
const WIDTH = 160;
const HEIGHT = 36;

/** One line of the ticker: symbol, the last prices as a line, price and change. */
export class Quote {
  #row = document.createElement('li');
  #prices = [];
  #firstOffset;

  constructor(symbol) {
    this.#row.className = 'quote';
    this.#row.dataset.symbol = symbol;
    this.#row.innerHTML = `
      <span class="symbol"></span>
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
        <path class="area" /><path class="line" vector-effect="non-scaling-stroke" />
      </svg>
      <span class="price">–</span>
      <span class="change">–</span>`;
    this.#row.querySelector('.symbol').textContent = symbol;
    document.querySelector('#quotes').append(this.#row);
  }

  add({ price, changePercent }, { offset }) {
    this.#firstOffset ??= offset;
    this.#prices = [...this.#prices, price].slice(-POINTS);
    const rising = changePercent >= 0;
    this.#row.classList.toggle('rising', rising);
    this.#row.querySelector('.price').textContent = price.toFixed(2);
    this.#row.querySelector('.change').textContent = `${rising ? '▲' : '▼'} ${Math.abs(changePercent).toFixed(2)}%`;
    this.#draw();
  }

  /** Puts older prices before those that came live. */
  addOlder(publications) {
    const older = publications.filter(({ offset }) => offset < (this.#firstOffset ?? Infinity));
    this.#prices = [...older.map(({ data }) => data.price), ...this.#prices].slice(-POINTS);
    this.#draw();
  }

  #draw() {
    const prices = this.#prices;
    if (prices.length < 2) return;
    const least = Math.min(...prices);
    const span = Math.max(...prices) - least || 1;
    const points = prices.map((price, i) => {
      const x = (WIDTH * (POINTS - prices.length + i)) / (POINTS - 1);
      return `${x.toFixed(1)} ${(HEIGHT - 3 - ((price - least) / span) * (HEIGHT - 6)).toFixed(1)}`;
    });
    const left = ((WIDTH * (POINTS - prices.length)) / (POINTS - 1)).toFixed(1);
    this.#row.querySelector('.line').setAttribute('d', `M${points.join('L')}`);
    this.#row.querySelector('.area').setAttribute('d', `M${left} ${HEIGHT}L${points.join('L')}L${WIDTH} ${HEIGHT}Z`);
  }
}
