// What a node counts, made to cost nothing: what the scenario `counting` compares with.

/** Has the hub of an application count nothing, observe no times and look at no clock for them. Call before the first peer. */
export function countNothing(app) {
  const { meter } = hubOf(app);
  const nothing = () => {};
  const silence = (of, ...methods) => {
    for (const method of methods) Object.getPrototypeOf(of)[method] = nothing;
  };
  const { unknown } = meter;
  silence(unknown, 'end');
  Object.getPrototypeOf(unknown).begin = () => 0;
  silence(meter.bad, 'add');
  silence(meter.errors, 'add');
  silence(meter.fanOut, 'observe');
  const prototype = Object.getPrototypeOf(meter);
  prototype.samples = () => false;
  prototype.event = () => unknown;
}

function hubOf(app) {
  for (const module of app.container.getModules().values()) {
    for (const { instance } of module.providers.values()) {
      if (instance?.meter !== undefined && instance.connections !== undefined) return instance;
    }
  }
  throw new Error('No hub was found');
}
