import { describe, expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { METRICS } from '../../lib/metrics/definitions.js';

const read = (file: string): string => readFileSync(file, 'utf8');

/** A panel, as Grafana has it since schema 36. */
interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly datasource?: { readonly type: string; readonly uid: string };
  readonly targets?: readonly { readonly refId: string; readonly expr: string; readonly datasource: unknown }[];
}

interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly schemaVersion: number;
  readonly panels: readonly Panel[];
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly type: string; readonly query: unknown }[];
  };
  readonly time: { readonly from: string; readonly to: string };
}

describe('docs/grafana-dashboard.json', () => {
  const dashboard = JSON.parse(read('docs/grafana-dashboard.json')) as Dashboard;
  const { panels } = dashboard;
  const targets = panels.flatMap(({ targets: some = [] }) => some);

  it('is a dashboard of the schema that Grafana 10 and later read', () => {
    expect(dashboard).toMatchObject({
      uid: 'nestjs-realtime',
      title: expect.any(String),
      schemaVersion: 39,
      time: { from: 'now-1h', to: 'now' },
      templating: { list: expect.any(Array) },
    });
    expect(dashboard).toHaveProperty('id', null); // Grafana gives it one
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    for (const { type, title, targets: some, datasource } of panels) {
      expect(['row', 'stat', 'timeseries']).toContain(type);
      expect(title).not.toBe('');
      if (type === 'row') continue;
      expect(datasource).toEqual({ type: 'prometheus', uid: '${datasource}' });
      expect(some!.map(({ refId }) => refId)).toEqual(some!.map((_, i) => String.fromCharCode(65 + i)));
    }
    expect(dashboard.templating.list.map(({ name, type }) => [name, type])).toEqual([
      ['datasource', 'datasource'],
      ['job', 'query'],
      ['instance', 'query'],
    ]);
  });

  it('lays its panels out in 24 columns, none over another', () => {
    const taken = new Set<string>();
    for (const { gridPos, title } of panels) {
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect([title, taken.has(`${x} ${y}`)]).toEqual([title, false]);
          taken.add(`${x} ${y}`);
        }
      }
    }
  });

  it('names metrics that are exported, by labels that they have, each of them somewhere', () => {
    const series = new Map<string, string[]>();
    for (const { name, type, label } of METRICS) {
      const labels = ['job', 'instance', ...(label === undefined ? [] : [label])];
      if (type !== 'histogram') series.set(name, labels);
      else for (const part of ['bucket', 'sum', 'count']) series.set(`${name}_${part}`, [...labels, 'le']);
    }
    const queries = dashboard.templating.list.map(({ query }) => JSON.stringify(query)).join();
    const named = new Set<string>();
    for (const { expr } of targets) {
      for (const [, name, selector] of expr.matchAll(/(realtime_\w+)\{([^}]*)\}/g)) {
        expect(series.has(name!) ? name : `${name} is not exported`).toBe(name);
        named.add(name!.replace(/_(bucket|sum|count)$/, ''));
        const used = [...selector!.matchAll(/(\w+)(?:=|!=|=~|!~)"/g)].map(([, label]) => label!);
        const by = [...expr.matchAll(/ by \(([^)]*)\)/g)].flatMap(([, labels]) => labels!.split(','));
        expect([...used, ...by].filter((label) => !series.get(name!)!.includes(label))).toEqual([]);
      }
      expect(expr.match(/realtime_/g)).toHaveLength([...expr.matchAll(/realtime_\w+\{/g)].length);
      expect(expr.split('(')).toHaveLength(expr.split(')').length);
    }
    expect(queries).toContain('label_values(realtime_ready');
    const missing = METRICS.map(({ name }) => name).filter((name) => !named.has(name));
    expect(missing).toEqual([]);
  });

  it('asks for the rate of what only grows, and for nothing else', () => {
    for (const { expr } of targets) {
      for (const [before, name] of expr.matchAll(/(?:rate\()?(realtime_\w+)\{/g)) {
        const grows = /_(total|bucket|sum|count)$/.test(name!);
        expect([expr, before.startsWith('rate(')]).toEqual([expr, grows]);
      }
    }
  });
});

describe('docs/operations.md', () => {
  it('lists every metric with its type and label', () => {
    const rows = [...read('docs/operations.md').matchAll(/^\| `(realtime_\w+)(?:\{(\w+)\})?` +\| (\w+) +\|/gm)];
    expect(rows.map(([, name, label, type]) => ({ name, label, type }))).toEqual(
      METRICS.map(({ name, label, type }) => ({ name, label, type })),
    );
  });
});
