import { afterEach, describe, expect, it } from '@jest/globals';
import { UserIdentity } from '../../../lib/hub/identity.js';
import { Fleet } from '../../support/fleet.js';

const UNAUTHENTICATED = { code: 'unauthenticated' };
const ADA = new UserIdentity('ada', { roles: ['a'], jti: 'k1' }, 2_000_000_000_000, ['chat.:room']);

let fleet: Fleet;

afterEach(() => fleet.close());

async function open(): Promise<void> {
  fleet = await Fleet.open({ nodes: 2 });
}

const issue = async (user: UserIdentity<unknown> = ADA): Promise<string> =>
  (await fleet.hubs[0]!.tickets.issue(user)).ticket;
const redeem = (ticket: string, node = 1): Promise<UserIdentity> => fleet.hubs[node]!.redeem(ticket);

describe('a ticket', () => {
  it('is the identity that it was issued for, with all it has', async () => {
    await open();
    const user = await redeem(await issue());
    expect(user).toBeInstanceOf(UserIdentity);
    expect(user).toEqual(ADA);
    expect(await redeem(await issue(new UserIdentity('bob')))).toEqual(new UserIdentity('bob'));
  });

  it('lets one in, however many come with it and wherever', async () => {
    await open();
    const ticket = await issue();
    const all = await Promise.allSettled([0, 1, 0, 1].map((node) => redeem(ticket, node)));
    expect(all.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    await expect(redeem(ticket)).rejects.toMatchObject(UNAUTHENTICATED);
  });

  it('counts for 30 s', async () => {
    await open();
    const { ticket, expiresAt } = await fleet.hubs[0]!.tickets.issue(ADA);
    expect(expiresAt).toBe(fleet.clock.now() + 30_000);
    const late = await issue();
    fleet.clock.advance(29_999);
    await redeem(ticket);
    fleet.clock.advance(1);
    await expect(redeem(late)).rejects.toMatchObject(UNAUTHENTICATED);
  });

  it.each(['', 'x', 'A'.repeat(43), `${'A'.repeat(42)}=`, 'A'.repeat(44), '../'.repeat(14), '\u0000'.repeat(43)])(
    'that nobody issued lets nobody in: %j',
    async (forged) => {
      await open();
      await issue();
      await expect(redeem(forged)).rejects.toMatchObject(UNAUTHENTICATED);
    },
  );

  it('is nowhere at the broker', async () => {
    await open();
    const put: unknown[][] = [];
    const session = fleet.faults(0);
    const { putOnce } = session;
    Object.assign(session, { putOnce: (...args: Parameters<typeof putOnce>) => (put.push(args), putOnce(...args)) });
    const ticket = await issue();
    expect(put).toHaveLength(1);
    expect(JSON.stringify(put)).not.toContain(ticket);
  });

  it('is not issued for what is no identity, or more than 8 KiB of one', async () => {
    await open();
    const invalid = { code: 'invalid' };
    await expect(issue({ claims: {} } as UserIdentity)).rejects.toMatchObject(invalid);
    await expect(issue(new UserIdentity(''))).rejects.toMatchObject(invalid);
    await expect(issue(new UserIdentity('ada', { n: 1n }))).rejects.toMatchObject(invalid);
    await expect(issue(new UserIdentity('ada', { text: 'é'.repeat(4_096) }))).rejects.toMatchObject(invalid);
    await redeem(await issue(new UserIdentity('ada', { text: 'é'.repeat(4_000) })));
  });

  it('that cannot be looked up is not told to be wrong', async () => {
    await open();
    const ticket = await issue();
    fleet.faults(1).calls('takeOnce', 'unavailable');
    await expect(redeem(ticket)).rejects.toMatchObject({ code: 'broker_unavailable' });
    await redeem(ticket);
  });
});
