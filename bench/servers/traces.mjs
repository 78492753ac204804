// OpenTelemetry as an application sets it up, with a sampler that takes nothing: what the scenario `counting` compares with.
import { context, trace } from '@opentelemetry/api';
import { AlwaysOffSampler, BasicTracerProvider } from '@opentelemetry/sdk-trace-base';
import { AsyncLocalStorage } from 'node:async_hooks';

const storage = new AsyncLocalStorage();
const root = context.active();

context.setGlobalContextManager({
  active: () => storage.getStore() ?? root,
  with: (active, fn, thisArg, ...args) => storage.run(active, () => fn.apply(thisArg, args)),
  bind: (_active, target) => target,
  enable() {
    return this;
  },
  disable() {
    return this;
  },
});
storage.run(root, () => {}); // as any instrumentation does: from now on contexts follow calls
trace.setGlobalTracerProvider(new BasicTracerProvider({ sampler: new AlwaysOffSampler() }));
