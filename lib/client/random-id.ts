/** 128 random bits as text. `crypto.randomUUID` exists on secure pages only. */
export function makeRandomId(): string {
  let id = '';
  for (const word of crypto.getRandomValues(new Uint32Array(4))) id += word.toString(36);
  return id;
}
