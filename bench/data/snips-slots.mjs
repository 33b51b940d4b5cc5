// SNIPS' slots as questions whose answers stand in a sentence: node bench/data/snips-slots.mjs FOLDER OUT → OUT/train.jsonl,
// OUT/test.jsonl (the published validation files), one line a question: {question, context, answers: {text, answer_start}}.
// Each slot has two or three wordings, which take turns; a sentence is asked for every slot that it fills.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { endWithUsage } from '../command-line.mjs';
import { readSnips } from './snips-files.mjs';

const QUESTIONS = {
  album: ['Which album?', 'What is the album called?'],
  artist: ['Which artist?', 'Who is the artist?', 'By whom?'],
  best_rating: ['Out of how many?', 'What is the best rating?'],
  city: ['Which city?', 'In what city?'],
  condition_description: ['What weather?', 'Which kind of weather?'],
  condition_temperature: ['How warm or cold?', 'What temperature?'],
  country: ['Which country?', 'In what country?'],
  cuisine: ['Which cuisine?', 'What kind of food?'],
  current_location: ['Is it the current location?', 'Which words mean where I am?'],
  entity_name: ['What is added?', 'Which title is added?'],
  facility: ['Which facility?', 'What must there be?'],
  genre: ['Which genre?', 'What kind of music?'],
  geographic_poi: ['Which park or natural place?', 'What place in nature?'],
  location_name: ['Which cinema?', 'What are the theatres called?'],
  movie_name: ['Which movie?', 'What is the movie called?'],
  movie_type: ['What kind of movies?', 'Which type of movies?'],
  music_item: ['Is it a song, a track or an album?', 'What kind of music item?'],
  object_location_type: ['What kind of place shows it?', 'Is it a cinema or a theatre?'],
  object_name: ['What is its title?', 'What is it called?', 'Which work?'],
  object_part_of_series_type: ['What is it part of?', 'Is it a series or a saga?'],
  object_select: ['Which one, this or the next?', 'Which of them?'],
  object_type: ['What kind of work is it?', 'Is it a book, a show or a game?'],
  party_size_description: ['Who comes?', 'For whom?'],
  party_size_number: ['How many people?', 'For how many?'],
  playlist: ['Which playlist?', 'What is the playlist called?'],
  playlist_owner: ['Whose playlist?', 'Who owns the playlist?'],
  poi: ['Near which place?', 'What is it near?'],
  rating_unit: ['In what unit is it rated?', 'Stars or points?'],
  rating_value: ['What rating?', 'How many stars or points?'],
  restaurant_name: ['Which restaurant?', 'What is the restaurant called?'],
  restaurant_type: ['What kind of restaurant?', 'Is it a bar, a pub or a restaurant?'],
  served_dish: ['Which dish?', 'What is served?'],
  service: ['Which service?', 'On what service?'],
  sort: ['How good or popular?', 'Is it the best or the newest?'],
  spatial_relation: ['How near?', 'How far away?'],
  state: ['Which state?', 'In what state?'],
  timeRange: ['When?', 'At what time?'],
  track: ['Which track?', 'What is the track called?'],
  year: ['From which year?', 'From what years?'],
};

/** What a sentence is asked: one question for every slot, of which all mentions are answers. */
function questionsOf({ data }, count) {
  const context = data.map(({ text }) => text).join('');
  const slots = new Map();
  let at = 0;
  for (const { text, entity } of data) {
    const answer = text.trim();
    if (entity !== undefined && answer !== '') {
      const answers = slots.get(entity) ?? { text: [], answer_start: [] };
      answers.text.push(answer);
      answers.answer_start.push(at + text.indexOf(answer));
      slots.set(entity, answers);
    }
    at += text.length;
  }
  return [...slots].map(([slot, answers]) => {
    const wordings = QUESTIONS[slot];
    if (!wordings) throw new Error(`there is no question for the slot ${slot}`);
    return { question: wordings[count() % wordings.length], context, answers };
  });
}

const [folder, out] = process.argv.slice(2);
if (!folder || !out) endWithUsage('bench/data/snips-slots.mjs FOLDER OUT');
mkdirSync(out, { recursive: true });
for (const split of ['train', 'test']) {
  let asked = 0;
  const rows = readSnips(folder, split).flatMap(({ sentences }) =>
    sentences.flatMap((sentence) => questionsOf(sentence, () => asked++)),
  );
  writeFileSync(join(out, `${split}.jsonl`), `${rows.map((row) => JSON.stringify(row)).join('\n')}\n`);
}
