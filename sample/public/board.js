/** Shows the score of a match. */
export function showScore({ home, away, quarter, clock, over, play }) {
  show('#home-name', home.name);
  show('#away-name', away.name);
  show('#home-points', home.points);
  show('#away-points', away.points);
  show('#quarter', over ? 'Final' : `Q${quarter}`);
  show('#clock', clock);
  show('#play', play);
}

function show(selector, value) {
  const place = document.querySelector(selector);
  if (place.textContent === String(value)) return;
  place.textContent = value;
  if (!place.matches('.points')) return;
  place.classList.remove('changed');
  void place.offsetWidth; // starts the animation anew
  place.classList.add('changed');
}
