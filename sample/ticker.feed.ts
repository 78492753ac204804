import { Injectable } from '@nestjs/common';
import { RealtimeService } from 'nestjs-realtime';
import { Feed } from './feed.js';
import { Leader } from './leader.js';

interface Quote {
  readonly symbol: string;
  readonly openedAt: number;
  price: number;
}

/** Publishes `price` to `ticker.NEST`, `ticker.NODE` and `ticker.RXJS`, five times a second each. */
@Injectable()
export class TickerFeed extends Feed {
  protected readonly intervalMs = 200;
  readonly #quotes: Quote[] = [
    { symbol: 'NEST', openedAt: 142, price: 142 },
    { symbol: 'NODE', openedAt: 87.5, price: 87.5 },
    { symbol: 'RXJS', openedAt: 24.3, price: 24.3 },
  ];

  constructor(
    leader: Leader,
    private readonly realtime: RealtimeService,
  ) {
    super(leader);
  }

  protected override async takeOver(): Promise<void> {
    for (const quote of this.#quotes) {
      const { publications } = await this.realtime.history<Quote>(`ticker.${quote.symbol}`, { limit: 1 });
      if (publications[0]) quote.price = publications[0].data.price;
    }
  }

  protected publishNext(): Promise<unknown> {
    return Promise.all(
      this.#quotes.map((quote) => {
        const { symbol, openedAt } = quote;
        // A random walk that is pulled back to where it began.
        const drift = (openedAt - quote.price) * 0.004;
        quote.price = Math.max(1, quote.price + drift + (Math.random() - 0.5) * openedAt * 0.004);
        const price = Number(quote.price.toFixed(2));
        const changePercent = Number(((price / openedAt - 1) * 100).toFixed(2));
        return this.realtime.publish(`ticker.${symbol}`, 'price', { symbol, price, changePercent, at: Date.now() });
      }),
    );
  }
}
