import { describe, expect, test } from '@jest/globals';
import { lazyTransport } from '../../../lib/client/lazy.transport.js';
import type { ClientTransport } from '../../../lib/client/transport.js';
import { FakeTransport, makeRig } from './fake-transport.js';

function makeLazy() {
  const real = new FakeTransport('real');
  let resolve!: (transport: ClientTransport) => void;
  let reject!: (error: Error) => void;
  const loading = new Promise<ClientTransport>((...settle) => ([resolve, reject] = settle));
  let loads = 0;
  const load = () => {
    loads++;
    return loading;
  };
  return { real, resolve, reject, loads: () => loads, transport: lazyTransport('lazy', load) };
}

describe('a transport that is loaded when it is needed', () => {
  test('is loaded with its first link, which holds what is sent until then', async () => {
    const { real, resolve, loads, transport } = makeLazy();
    const rig = makeRig({ transports: [transport] });
    expect(loads()).toBe(0);
    void rig.client.connect();
    await rig.clock.settle();
    expect(loads()).toBe(1);
    expect(real.links).toHaveLength(0);
    resolve(real);
    await rig.clock.settle();
    expect(real.link.sent).toEqual([expect.objectContaining({ event: '$resume' })]);
    real.link.open();
    void rig.client.request('echo').catch(() => {});
    await rig.clock.settle();
    expect(real.link.last('echo')).toMatchObject({ event: 'echo' });
    expect(rig.client.transport).toBe('lazy');
    rig.client.close();
    expect(real.link.closed).toBe(true);
  });

  test('opens nothing for a link that was closed meanwhile', async () => {
    const { real, resolve, transport } = makeLazy();
    const rig = makeRig({ transports: [transport] });
    void rig.client.connect().catch(() => {});
    await rig.clock.settle();
    rig.client.close();
    resolve(real);
    await rig.clock.settle();
    expect(real.links).toHaveLength(0);
    expect(rig.clock.waiting).toBe(0);
  });

  test('that cannot be loaded has failed: the next one is tried', async () => {
    const { reject, transport } = makeLazy();
    const next = new FakeTransport('next');
    const rig = makeRig({ transports: [transport, next] });
    void rig.client.connect();
    await rig.clock.settle();
    reject(new Error('Failed to fetch dynamically imported module'));
    await rig.clock.pass(1_500);
    next.link.open();
    expect(rig.client.transport).toBe('next');
    expect(rig.errors).toEqual([]);
    rig.client.close();
  });
});
