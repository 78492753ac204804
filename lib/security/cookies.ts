/** Reads a `Cookie` header; of a repeated name the first counts. */
export function parseCookies(header = ''): Record<string, string> {
  const cookies = Object.create(null) as Record<string, string>;
  for (const pair of header.split(';')) {
    const at = pair.indexOf('=');
    const name = pair.slice(0, Math.max(at, 0)).trim();
    if (name === '' || name in cookies) continue;
    cookies[name] = decode(
      pair
        .slice(at + 1)
        .trim()
        .replace(/^"(.*)"$/, '$1'),
    );
  }
  return cookies;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
