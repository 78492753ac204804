// Who is measured, and how a peer of each begins.
export const REALTIME = {
  name: 'nestjs-realtime',
  server: 'realtime',
  dialect: {
    path: '/realtime',
    trigger: '{"event":"$connected"',
    greeting: '{"id":1,"event":"$subscribe","data":{"channel":"bench.one"}}',
    ready: '{"id":1,"data":{"position"',
  },
};
export const WS = { name: 'ws', server: 'ws', dialect: { path: '/' } };
export const PLATFORM_WS = { name: '@nestjs/platform-ws', server: 'platform-ws', dialect: { path: '/' } };
export const SOCKET_IO = {
  name: 'socket.io',
  server: 'socket-io',
  dialect: { path: '/socket.io/?EIO=4&transport=websocket', trigger: '0{', greeting: '40', ready: '40{' },
};
/** No peer but the bound of one write per socket and turn. */
export const BARE_WRITE = { name: 'bound: a ready buffer', server: 'bare-write', dialect: { path: '/' } };

/** Event streams. */
export const REALTIME_SSE = {
  name: 'nestjs-realtime',
  server: 'realtime',
  dialect: { path: '/realtime/sse?channels=bench.one', stream: true, ready: 'event: $open' },
};
export const NEST_SSE = {
  name: '@Sse, a shared Subject',
  server: 'nest-sse',
  dialect: { path: '/events', stream: true },
};
export const BETTER_SSE = { name: 'better-sse', server: 'better-sse', dialect: { path: '/events', stream: true } };

/** The same on Redis: two nodes each, publishing on one, peers on the other. */
export const REDIS_REALTIME = { name: 'nestjs-realtime', server: 'redis-realtime', dialect: REALTIME.dialect };
export const REDIS_HISTORY = {
  name: 'nestjs-realtime, history',
  server: 'redis-realtime',
  env: { BENCH_HISTORY: '1' },
  dialect: REALTIME.dialect,
};
export const REDIS_SOCKET_IO = {
  name: 'socket.io, redis-adapter',
  server: 'redis-socket-io',
  dialect: SOCKET_IO.dialect,
};
/** No peers but the bounds of a PUBLISH of ready frames per turn, or per publication. */
export const REDIS_BARE = { name: 'bound: a PUBLISH per turn', server: 'redis-bare', dialect: { path: '/' } };
export const REDIS_BARE_EACH = {
  name: 'ioredis: a publish each',
  server: 'redis-bare',
  env: { BENCH_EACH: '1' },
  dialect: { path: '/' },
};
