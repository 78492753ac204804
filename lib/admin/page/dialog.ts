import { h } from './dom.js';

const dialog = document.querySelector<HTMLDialogElement>('#dialog')!;

dialog.addEventListener('click', (event) => {
  if (event.target === dialog) dialog.close(); // beside it
});

/** Shows something above the page; gives what holds it. */
export function showDialog(title: string, ...children: Node[]): HTMLElement {
  const content = h('div', 'content', ...children);
  const close = h('button', { class: 'quiet', attrs: { type: 'button' }, on: { click: closeDialog } }, 'Close');
  dialog.replaceChildren(
    h('div', 'sheet', h('header', {}, h('h2', { attrs: { id: 'dialog-title' } }, title), close), content),
  );
  if (!dialog.open) dialog.showModal();
  return content;
}

export function closeDialog(): void {
  dialog.close();
}

export function dialogOpen(): boolean {
  return dialog.open;
}
