/** Cuts text to the 123 bytes that a close reason may have, between characters. */
export function cutReason(reason: string): string {
  if (Buffer.byteLength(reason) <= 123) return reason;
  let text = '';
  let bytes = 0;
  for (const character of reason) {
    bytes += Buffer.byteLength(character);
    if (bytes > 123) break;
    text += character;
  }
  return text;
}
