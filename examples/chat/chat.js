'use strict';

// The whole client of the chat: connect, one subscription, presence, and a line for everything that happens.
// Parameters of the page's address: server, room, name.

const options = new URLSearchParams(location.search);
const room = options.get('room') ?? 'lobby';
const server = options.get('server') ?? 'ws://127.0.0.1:8000/connection/websocket';
const HISTORY = 50;

const at = (id) => document.getElementById(id);
at('room').textContent = room;
at('name').value = options.get('name') ?? `guest-${Math.floor(Math.random() * 900 + 100)}`;

const client = new Centrifuge(server, { minReconnectDelay: 200, maxReconnectDelay: 3000 });
// `recoverable` asks the server to send what was missed during a short disconnect.
const chat = client.newSubscription(room, { joinLeave: true, recoverable: true });

const people = new Set(); // client ids
const names = new Map(); // client id -> the name in its last message
let own = '';

function status(state, text) {
  at('status').dataset.state = state;
  at('status').textContent = text;
}

const nameOf = (id) => (id === own ? at('name').value : names.get(id) ?? `guest ${id.slice(0, 4)}`);

function showPeople() {
  at('count').textContent = people.size;
  at('people').replaceChildren(
    ...[...people].sort().map((id) => {
      const item = document.createElement('li');
      item.dataset.client = id;
      item.textContent = id === own ? `${nameOf(id)} (you)` : nameOf(id);
      return item;
    }),
  );
}

function append(item) {
  const list = at('messages');
  const atBottom = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  if (atBottom) list.scrollTop = list.scrollHeight;
}

function note(kind, text, mood = '') {
  const item = document.createElement('li');
  item.className = `note ${mood}`;
  item.dataset.kind = kind;
  item.textContent = text;
  append(item);
}

function message(publication) {
  const { data, info, offset } = publication;
  const from = String(data?.name ?? 'server');
  if (info) {
    names.set(info.client, from);
    showPeople();
  }
  const item = document.createElement('li');
  item.dataset.kind = 'message';
  item.dataset.offset = offset;
  item.classList.toggle('own', info?.client === own);
  const who = document.createElement('span');
  who.className = 'from';
  who.textContent = from;
  const what = document.createElement('span');
  what.className = 'text';
  what.textContent = String(data?.text ?? JSON.stringify(data));
  item.append(who, what);
  append(item);
}

client.on('connecting', (ctx) => {
  status('connecting', ctx.code === 0 ? 'connecting …' : 'offline, connecting again …');
  if (ctx.code !== 0) note('offline', `offline: ${ctx.reason}`, 'bad');
});
client.on('connected', (ctx) => {
  own = ctx.client;
  status('connected', 'connected');
});
client.on('disconnected', (ctx) => status('disconnected', `disconnected: ${ctx.reason} (${ctx.code})`));

chat.on('publication', message);
chat.on('join', ({ info }) => {
  people.add(info.client);
  showPeople();
  if (info.client !== own) note('join', `${nameOf(info.client)} joined`);
});
chat.on('leave', ({ info }) => {
  people.delete(info.client);
  showPeople();
  if (info.client !== own) note('leave', `${nameOf(info.client)} left`);
});
chat.on('subscribed', async (ctx) => {
  if (ctx.wasRecovering) {
    if (ctx.recovered) note('recovered', 'back online, nothing missed', 'good');
    else note('not-recovered', 'back online; some messages are lost', 'bad');
  }
  const first = !ctx.wasRecovering && at('messages').childElementCount === 0;
  // Only what stood in history before the subscription: the rest arrives as publications.
  const position = ctx.streamPosition;
  const [presence, past] = await Promise.all([
    chat.presence(),
    first && position?.offset > 0
      ? chat.history({ limit: HISTORY, reverse: true, since: { offset: position.offset + 1, epoch: position.epoch } })
      : null,
  ]);
  people.clear();
  for (const id of Object.keys(presence.clients)) people.add(id);
  showPeople();
  if (past) {
    const live = [...at('messages').children];
    at('messages').replaceChildren();
    past.publications.reverse().forEach(message);
    at('messages').append(...live);
  }
});
chat.on('unsubscribed', (ctx) => note('unsubscribed', `not in the room: ${ctx.reason} (${ctx.code})`, 'bad'));

at('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = at('text').value;
  try {
    await chat.publish({ name: at('name').value, text });
    if (at('text').value === text) at('text').value = '';
  } catch (error) {
    note('error', `not sent: ${error.message}`, 'bad');
  }
});

chat.subscribe();
client.connect();
