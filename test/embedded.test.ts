import { readdirSync, readFileSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { load } from '../src/platform/node-load.ts';
import { answerSpans } from '../src/tasks/answer-spans.ts';
import { classify } from '../src/tasks/classify.ts';
import { score } from '../src/tasks/score.ts';

const models = new URL('../models/', import.meta.url);
const named = (pattern: RegExp) => readdirSync(models).filter((name) => pattern.test(name));

test.each(named(/books/))('%s loads by its name and predicts a story', async (name) => {
  const model = await load(name, { threads: 1 });
  const session = model.session();
  const text = 'Once upon a time there was a little girl who lived with her mother in a small house near the wood.';
  const { perplexity } = await score(session, [model.tokenizer.encode(text)]);
  expect(perplexity).toBeLessThan(100);
  model.dispose();
});

test.each([
  ['Add this song to my running playlist', 'AddToPlaylist'],
  ['book a table for two in Basel tonight', 'BookRestaurant'],
  ['Will it be cold tomorrow morning?', 'GetWeather'],
  ['Play some jazz', 'PlayMusic'],
  ['give this novel five stars', 'RateBook'],
  ['Find the movie Casablanca', 'SearchCreativeWork'],
  ['When is the movie shown at the nearest cinema?', 'SearchScreeningEvent'],
])('snips-intents: %j is %s', async (text, label) => {
  const model = await load('snips-intents', { threads: 1 });
  const [best] = (await classify(model, text)).sort((a, b) => b.probability - a.probability);
  expect(best!.label).toBe(label);
  model.dispose();
});

test.each([
  ['Play some jazz by Miles Davis on Spotify', 'Which artist?', 'Miles Davis'],
  ['Play some jazz by Miles Davis on Spotify', 'On what service?', 'Spotify'],
  ['Will it rain in Dublin next Tuesday?', 'When?', 'next Tuesday'],
  ['Will it rain in Dublin next Tuesday?', 'What weather?', 'rain'],
  ['Book a table for four at an Italian restaurant in Basel', 'For how many?', 'four'],
])('snips-slots: of %j, %j is %j', async (sentence, question, answer) => {
  const model = await load('snips-slots', { threads: 1 });
  const [best] = await answerSpans(model, question, sentence);
  expect(best!.text).toBe(answer);
  model.dispose();
});

test('babi-1 tells where somebody is', async () => {
  const model = await load('babi-1', { threads: 1 });
  const story = 'John went to the hallway.\nMary moved to the garden.\nJohn travelled to the kitchen.\nWhere is';
  for (const [name, place] of [
    ['John', ' kitchen'],
    ['Mary', ' garden'],
  ]) {
    const pieces: string[] = [];
    for await (const piece of model.session().generate(`${story} ${name}?`, { temperature: 0, maxTokens: 1 }))
      pieces.push(piece);
    expect(pieces.join('')).toBe(place);
  }
  model.dispose();
});

test.each(named(/^(?!tiny-)/))('%s is small, and says how it was made', (name) => {
  const folder = new URL(`${name}/`, models);
  const bytes = readdirSync(folder).reduce((sum, file) => sum + statSync(new URL(file, folder)).size, 0);
  expect(bytes).toBeLessThan(6e6);
  expect(readFileSync(new URL('README.md', folder), 'utf8')).toMatch(/riverrun (train --arch|finetune --model)/);
});
