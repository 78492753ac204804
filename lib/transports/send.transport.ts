import type { Reception, RequestExchange, Transport } from '../hub/ports/transport.js';
import { RealtimeException } from '../protocol/errors.js';
import { answerJson, readJson } from './body.js';
import { readText } from './long-polling.transport.js';

const MAX_BODY_BYTES = 256 * 1024;
const MAX_FRAMES = 64;

/**
 * What peers send that have no socket: `POST {path}/send` with `{ pass, seq, frames }`, answered `{ seq, frames }`. A
 * number is run once, whichever node it comes to; repeated, it is answered the same.
 */
export class SendTransport implements Transport {
  readonly name = 'send';
  readonly subpath = 'send';
  readonly methods = ['POST'];

  open(): void {
    return;
  }

  async serve({ request, response }: RequestExchange, reception: Reception): Promise<void> {
    const release = reception.begin();
    let body: Record<string, unknown>;
    try {
      body = await readJson(request, MAX_BODY_BYTES);
    } finally {
      release();
    }
    const { seq, frames } = body;
    const pass = readText('pass', body.pass);
    if (!Number.isSafeInteger(seq) || (seq as number) < 1) {
      throw new RealtimeException('invalid', '"seq" is an integer from 1');
    }
    if (!Array.isArray(frames) || frames.length === 0 || frames.length > MAX_FRAMES) {
      throw new RealtimeException('invalid', `"frames" is a list of 1 to ${MAX_FRAMES} frames`);
    }
    const connection = await reception.resume(pass);
    const answer = await connection.sendFrames(seq as number, frames as unknown[]);
    answerJson(response, 200, [`{"seq":${answer.seq},"frames":${answer.answers}}`]);
  }

  close(): void {
    return;
  }
}
