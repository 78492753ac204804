// `npm start`: builds what is missing or out of date, then runs the sample in this process.
import { build } from './build.mjs';

try {
  await build();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
await import('../dist-sample/main.js');
