import { parseArgs, type ParseArgsConfig } from 'node:util';

/** What a command line says wrongly: told with the usage, exit code 2. */
export class UsageError extends Error {}

/** An option of a command. */
interface OptionHelp {
  readonly type: 'string' | 'boolean';
  readonly short?: string;
  /** How its value is called in the usage. */
  readonly value?: string;
  readonly what: string;
  readonly initial?: string;
}

/** A command: its arguments and options, and what it does. */
export interface CommandHelp {
  readonly name: string;
  /** Names of the arguments; those in brackets may be left out. */
  readonly parameters: readonly string[];
  readonly what: string;
  readonly options: Readonly<Record<string, OptionHelp>>;
}

/** What a command was given. */
export interface Arguments {
  readonly positionals: readonly string[];
  /** Text of an option, `undefined` where it was not given and has no default. */
  readonly text: (name: string) => string | undefined;
  readonly flag: (name: string) => boolean;
  /** An option that is a number from `least` on. Throws {@link UsageError}. */
  readonly number: (name: string, least: number) => number;
  /** The same of a whole number. */
  readonly count: (name: string, least: number) => number;
}

/** Options that every command has. */
const COMMON: CommandHelp['options'] = {
  url: {
    type: 'string',
    value: 'URL',
    what: 'the hub: https://host/realtime; REALTIME_URL in the environment',
    initial: 'http://localhost:3000/realtime',
  },
  token: {
    type: 'string',
    value: 'TOKEN',
    what: 'a token to connect with; better REALTIME_TOKEN, which ps does not show',
  },
  help: { type: 'boolean', short: 'h', what: 'this text' },
};

/** The option of commands that are a client. */
export const TRANSPORT: CommandHelp['options'] = {
  transport: { type: 'string', value: 'NAME', what: 'websocket, sse or long-polling; as it is best by default' },
};

/** Reads the arguments of a command. Throws {@link UsageError}. */
export function parse(command: CommandHelp, args: readonly string[], env: NodeJS.ProcessEnv): Arguments {
  const options = { ...command.options, ...COMMON };
  const config: NonNullable<ParseArgsConfig['options']> = {};
  for (const [name, { type, short }] of Object.entries(options)) {
    config[name] = short === undefined ? { type } : { type, short };
  }
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...args], options: config, allowPositionals: true });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const { values, positionals } = parsed;
  const least = command.parameters.filter((name) => !name.startsWith('[')).length;
  if (values.help !== true && (positionals.length < least || positionals.length > command.parameters.length)) {
    throw new UsageError(`${command.name} takes: ${command.parameters.join(' ') || 'no arguments'}`);
  }
  const fromEnvironment: Record<string, string | undefined> = {
    url: env.REALTIME_URL,
    token: env.REALTIME_TOKEN,
  };
  const text = (name: string): string | undefined =>
    (values[name] as string | undefined) ?? fromEnvironment[name] ?? options[name]?.initial;
  const numberOf = (name: string, smallest: number, isOne: (value: number) => boolean, what: string): number => {
    const value = Number(text(name));
    if (isOne(value) && value >= smallest) return value;
    throw new UsageError(`--${name} is a ${what} from ${smallest}, not "${text(name)}"`);
  };
  return {
    positionals,
    text,
    flag: (name) => values[name] === true,
    number: (name, smallest) => numberOf(name, smallest, Number.isFinite, 'number'),
    count: (name, smallest) => numberOf(name, smallest, Number.isSafeInteger, 'whole number'),
  };
}

/** How a command is used. */
export function usage({ name, parameters, what, options }: CommandHelp): string {
  const rows = Object.entries({ ...options, ...COMMON }).map(([option, { value, what: does, initial }]) => {
    const left = `  --${option}${value === undefined ? '' : ` ${value}`}`;
    return `${left.padEnd(24)}${does}${initial === undefined ? '' : ` (${initial})`}`;
  });
  return `nestjs-realtime ${[name, ...parameters].join(' ')} [options]\n\n${what}\n\n${rows.join('\n')}\n`;
}
