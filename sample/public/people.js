const ADJECTIVES = [
  'Amber',
  'Brisk',
  'Calm',
  'Clever',
  'Dapper',
  'Eager',
  'Gentle',
  'Lucid',
  'Mellow',
  'Nimble',
  'Quiet',
  'Sunny',
];
const ANIMALS = [
  'Badger',
  'Crane',
  'Falcon',
  'Heron',
  'Ibex',
  'Lynx',
  'Marten',
  'Otter',
  'Puffin',
  'Raven',
  'Seal',
  'Wren',
];

/** A nickname of this tab, kept over reloads. */
export function readNickname() {
  return sessionStorage.getItem('nickname') ?? saveNickname(`${pick(ADJECTIVES)} ${pick(ANIMALS)}`);
}

export function saveNickname(name) {
  sessionStorage.setItem('nickname', name);
  return name;
}

/** A round picture for a name: its initials on a colour of its own. */
export function avatar(name) {
  const picture = document.createElement('span');
  picture.className = 'avatar';
  picture.setAttribute('aria-hidden', 'true');
  const words = name.trim().split(/\s+/);
  picture.textContent = [words[0], words.length > 1 ? words.at(-1) : ''].map((word) => [...word][0] ?? '').join('');
  picture.style.setProperty('--hue', String(hueOf(name)));
  return picture;
}

function hueOf(text) {
  let hash = 7;
  for (const letter of text) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  return hash;
}

function pick(list) {
  return list[Math.floor(Math.random() * list.length)];
}
