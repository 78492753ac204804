// Handshakes: 1,000 peers connect, 500 of them at once, with an HS256 token in the Authorization header and without one. What the
// verification of the token costs by itself is told apart.
import { SignJWT } from 'jose';
import { setTimeout as sleep } from 'node:timers/promises';
import { Load, Server } from '../support/processes.mjs';
import { spread } from '../support/statistics.mjs';
import { REALTIME, WS } from '../support/subjects.mjs';

const SECRET = 'a secret of the bench, which nobody else has';
const CLOSED_WITHIN_MS = 10_000;

export async function handshakes({ connections = 1_000, rounds = 15, warmUps = 10, verifications = 2_000 } = {}) {
  const token = await sign();
  const env = { BENCH_JWT_SECRET: SECRET };
  const path = REALTIME.dialect.path;
  const subjects = [
    { name: WS.name, server: WS.server, dialect: WS.dialect },
    { name: `${REALTIME.name}, anonymous`, server: REALTIME.server, dialect: { path }, greets: true },
    {
      name: `${REALTIME.name}, HS256`,
      server: REALTIME.server,
      env,
      dialect: { path, headers: [`Authorization: Bearer ${token}`] },
      greets: true,
    },
  ];
  const running = [];
  for (const subject of subjects) running.push({ subject, server: await Server.start(subject.server, subject) });
  const samples = new Map(running.map((one) => [one, []]));
  const verifying = [];
  for (let round = -warmUps; round < rounds; round++) {
    for (const one of running) {
      const micros = await connect(one, connections);
      if (round >= 0) samples.get(one).push(micros);
    }
    const micros = await verify(token, verifications);
    if (round >= 0) verifying.push(micros);
  }
  for (const { server } of running) await server.stop();
  const base = samples.get(running[0]);
  return {
    connections,
    subjects: running.map((one) => {
      const own = samples.get(one);
      const ratio = spread(own.map((micros, round) => base[round] / micros));
      return { name: one.subject.name, microsPerHandshake: spread(own), ratio, samples: own };
    }),
    verification: spread(verifying),
  };
}

/** CPU µs of the server per peer, until each was accepted and, where the server greets, greeted. */
async function connect({ subject: { dialect, greets }, server }, connections) {
  const load = Load.start();
  const before = await server.ask('usage');
  await load.open(server.port, connections, dialect);
  if (greets) await load.count(connections);
  const after = await server.ask('usage');
  await load.stop();
  const deadline = Date.now() + CLOSED_WITHIN_MS;
  while ((await server.ask('connections')) > 0) {
    if (Date.now() > deadline) throw new Error('The peers are gone, and the server still has connections');
    await sleep(10);
  }
  return (after.cpu - before.cpu) / connections;
}

/** CPU µs of this process per token. */
async function verify(token, count) {
  const { jwtAuth } = await import('nestjs-realtime/jwt');
  const auth = jwtAuth({ secret: SECRET });
  const before = process.cpuUsage();
  for (let i = 0; i < count; i++) await auth.authenticate({ token, source: 'header' });
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}

/** A token as identity providers make them. */
async function sign() {
  const claims = {
    sub: 'b4e6f1c2-1d3a-4c55-9d0c-6f2f0a5b7e11',
    iss: 'https://id.example.com/',
    aud: 'app',
    roles: ['member'],
  };
  return new SignJWT(claims)
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuedAt()
    .setExpirationTime('12h')
    .sign(Buffer.from(SECRET));
}
