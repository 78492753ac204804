const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** 12,345 and, where it is long, 1.2M. */
export function count(value: number): string {
  return value >= 1e6 ? short.format(value) : whole.format(Math.round(value));
}

/** Per second. */
export function rate(value: number): string {
  if (value >= 1e5) return short.format(value);
  return value >= 100 || Number.isInteger(value) ? whole.format(Math.round(value)) : value.toFixed(1);
}

export function ms(value: number): string {
  if (value >= 1_000) return `${(value / 1_000).toFixed(value >= 10_000 ? 0 : 1)} s`;
  if (value >= 10) return `${Math.round(value)} ms`;
  return `${Number(value.toPrecision(2))} ms`;
}

export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let i = 0;
  while (value >= 1_024 && i < units.length - 1) {
    value /= 1_024;
    i++;
  }
  return `${value >= 100 || i === 0 ? Math.round(value) : value.toFixed(1)} ${units[i]!}`;
}

/** 3 d 4 h, 5 h 12 m, 8 m 3 s, 12 s. */
export function duration(value: number): string {
  const seconds = Math.max(0, Math.floor(value / 1_000));
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first === -1) return '0 s';
  return parts
    .slice(first, first + 2)
    .filter(([amount], i) => i === 0 || amount > 0)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(' ');
}

/** The beginning of an id. */
export function shortId(id: string): string {
  return id.length > 13 ? `${id.slice(0, 8)}…` : id;
}

export function plural(amount: number, one: string, many = `${one}s`): string {
  return `${count(amount)} ${amount === 1 ? one : many}`;
}
