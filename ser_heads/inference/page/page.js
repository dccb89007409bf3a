// A recording → an answer, all in the browser: decode, cut into stretches, ask the classifier, draw.
"use strict";

const COLUMNS = 600; // of the waveform's picture
const WIDTH = 1000, HEIGHT = 100; // units of a drawing, which is stretched to its place
const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120]; // seconds between marks of time
const MOST_MARKS = 5;
const BATCH = 8; // stretches that are answered together

const at = (id) => document.getElementById(id);
let config, session, recorder;

class Problem extends Error {} // its message is one sentence for the reader

// ---------------------------------------------------------------- the page

async function start() {
  if (location.protocol === "file:") {
    throw new Problem("Browsers don't let a page that was opened as a file load its classifier: run "
      + "“python -m http.server” in its folder and open http://localhost:8000/.");
  }
  if (typeof ort === "undefined") throw new Problem("ort.wasm.min.js isn't beside this page: serve the whole folder.");
  config = await (await fetched("model.json")).json();
  ort.env.wasm.numThreads = 1; // more need headers that not every server sends
  ort.env.wasm.wasmPaths = new URL("./", location.href).href;
  const model = new Uint8Array(await (await fetched("model.onnx")).arrayBuffer());
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  introduce();
  setBusy(false);
  say("");
}

async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Problem(`${name} isn't beside this page: serve the whole folder.`);
  return response;
}

function introduce() {
  const { seconds, bytes } = config.limits;
  at("lead").textContent = `The classifier ${config.model} tells ${config.labels.join(", ")}. Nothing leaves your `
    + "browser: recordings are answered on this device.";
  at("limits").textContent = `Up to ${seconds / 60} minutes and ${bytes / 1e6} MB.`;
  const facts = { Model: config.model, Labels: config.labels.join(", "), "Sample rate": `${config.sample_rate} Hz` };
  for (const [name, value] of Object.entries({ ...facts, ...config.card })) {
    const text = value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
    at("facts").append(element("dt", "", name), element("dd", "", text));
  }
  at("about").hidden = false;
}

function setBusy(busy) {
  at("form").classList.toggle("busy", busy);
  at("file").disabled = busy;
  at("microphone").disabled = busy;
}

function say(text, share) {
  at("status").replaceChildren(text);
  if (share === undefined) return;
  const bar = element("progress");
  bar.value = share;
  at("status").append(bar);
}

async function ask(blob, name) {
  setBusy(true);
  at("result").replaceChildren();
  at("player").hidden = true;
  say(`Reading ${name} …`);
  try {
    const signal = await decode(blob, name);
    const overview = await overviewOf(signal, (share) => say("Listening …", share));
    at("result").replaceChildren(answerElement(overview));
    play(blob, overview.seconds);
  } catch (error) {
    show(error);
  } finally {
    setBusy(false);
    say("");
  }
}

function show(error) {
  const text = error instanceof Problem ? error.message : `This browser couldn't do it: ${error.message || error}`;
  const paragraph = element("p", "problem", text);
  paragraph.setAttribute("role", "alert");
  const section = element("section", "answer");
  section.append(paragraph);
  at("result").replaceChildren(section);
}

function play(blob, seconds) {
  const player = at("player");
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(blob);
  player.hidden = false;
  const cursor = document.querySelector(".cursor i");
  player.ontimeupdate = () => { cursor.style.left = `${Math.min(100, 100 * player.currentTime / seconds)}%`; };
}

// ---------------------------------------------------------------- the microphone

async function record() {
  if (recorder) return recorder.stop();
  if (!navigator.mediaDevices) {
    return show(new Problem("A browser gives its microphone to pages from https or from localhost alone."));
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    return show(new Problem("There is no microphone that this page may use: allow it, or choose a recording."));
  }
  const pieces = [], begun = performance.now();
  at("result").replaceChildren();
  at("player").hidden = true;
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = (event) => pieces.push(event.data);
  at("microphone").textContent = "Stop";
  at("file").disabled = true;
  const clock = setInterval(() => {
    const seconds = (performance.now() - begun) / 1000;
    say(`Recording: ${timeText(Math.floor(seconds))}`);
    if (seconds > config.limits.seconds - 1 && recorder) recorder.stop();
  }, 200);
  recorder.onstop = () => {
    clearInterval(clock);
    stream.getTracks().forEach((track) => track.stop());
    const type = recorder.mimeType;
    recorder = undefined;
    at("microphone").textContent = "Speak";
    ask(new Blob(pieces, { type }), "the recording");
  };
  recorder.start();
}

// ---------------------------------------------------------------- sound

// A blob → Float32Array, mono at the classifier's rate.
async function decode(blob, name) {
  const { seconds, bytes } = config.limits;
  if (blob.size === 0) throw new Problem(`${name} is empty (0 bytes): choose another recording.`);
  if (blob.size > bytes) {
    throw new Problem(`${name} has ${Math.round(blob.size / 1e6)} MB: at most ${bytes / 1e6} MB are taken.`);
  }
  checkSeconds(await statedSeconds(blob), name);
  let buffer;
  try {
    const context = new OfflineAudioContext(1, 1, config.sample_rate); // decoding resamples to its rate
    buffer = await context.decodeAudioData(await blob.arrayBuffer());
  } catch {
    throw new Problem(`${name} is truncated or no audio that this browser can read: choose another recording.`);
  }
  checkSeconds(buffer.duration, name);
  if (buffer.length === 0) throw new Problem(`${name} has a header and no samples.`);
  const signal = mixDown(buffer);
  if (!signal.every(Number.isFinite)) throw new Problem(`${name} holds samples that are NaN or infinite.`);
  return signal;
}

function checkSeconds(seconds, name) {
  const most = config.limits.seconds;
  if (seconds > most) {
    throw new Problem(`${name} is ${(seconds / 60).toFixed(1)} minutes long: at most ${most / 60} minutes are taken.`);
  }
}

// What a file's header says, before it is decoded; 0 where it says nothing.
function statedSeconds(blob) {
  return new Promise((resolve) => {
    const audio = new Audio(), url = URL.createObjectURL(blob);
    const end = (seconds) => { URL.revokeObjectURL(url); resolve(Number.isFinite(seconds) ? seconds : 0); };
    audio.preload = "metadata";
    audio.onloadedmetadata = () => end(audio.duration);
    audio.onerror = () => end(0);
    audio.src = url;
  });
}

function mixDown(buffer) {
  const signal = new Float32Array(buffer.length), n = buffer.numberOfChannels;
  for (let channel = 0; channel < n; channel++) {
    buffer.getChannelData(channel).forEach((value, place) => { signal[place] += value / n; });
  }
  return signal;
}

// ---------------------------------------------------------------- answers

// The same stretches as the Python package's timeline: whole windows, then a last shorter one, if there is a rest.
function stretchesOf(nSamples) {
  const { window, hop } = config, stretches = [];
  let start = 0, answered = 0;
  for (; start + window <= nSamples; start += hop) {
    stretches.push([start, start + window]);
    answered = start + window;
  }
  if (nSamples > Math.max(start, answered)) stretches.push([start, Math.min(nSamples, start + window)]);
  return stretches;
}

async function probabilities(signals) {
  const width = Math.max(2, ...signals.map((signal) => signal.length));
  const waveform = new Float32Array(signals.length * width);
  signals.forEach((signal, row) => waveform.set(signal, row * width));
  const lengths = BigInt64Array.from(signals, (signal) => BigInt(signal.length));
  const { probabilities: output } = await session.run({
    waveform: new ort.Tensor("float32", waveform, [signals.length, width]),
    lengths: new ort.Tensor("int64", lengths, [signals.length]),
  });
  const n = config.labels.length;
  return signals.map((_, row) => Array.from(output.data.slice(row * n, (row + 1) * n)));
}

async function overviewOf(signal, progress) {
  const seconds = signal.length / config.sample_rate, stretches = stretchesOf(signal.length), along = [];
  for (let first = 0; first < stretches.length; first += BATCH) {
    progress(first / stretches.length);
    await new Promise((resolve) => setTimeout(resolve)); // lets the browser draw
    const signals = stretches.slice(first, first + BATCH).map(([begin, end]) => signal.subarray(begin, end));
    along.push(...await probabilities(signals));
  }
  const isMean = seconds > config.whole_seconds;
  const shares = isMean
    ? config.labels.map((_, place) => along.reduce((sum, row) => sum + row[place], 0) / along.length)
    : (await probabilities([signal]))[0];
  const middles = stretches.map(([begin, end]) => (begin + end) / 2 / config.sample_rate);
  return { seconds, columns: columnsOf(signal), along, middles, shares, isMean, notes: faultsOf(signal) };
}

// The lowest and the highest sample in each of at most 600 parts.
function columnsOf(signal) {
  const n = Math.min(COLUMNS, signal.length);
  return Array.from({ length: n }, (_, column) => {
    let low = Infinity, high = -Infinity;
    const end = Math.floor((column + 1) * signal.length / n);
    for (let place = Math.floor(column * signal.length / n); place < end; place++) {
      low = Math.min(low, signal[place]);
      high = Math.max(high, signal[place]);
    }
    return [low, high];
  });
}

// ---------------------------------------------------------------- the recording's condition

// Sentences on what is wrong, by the package's measures of length, level, clipping and silence.
function faultsOf(signal) {
  const limits = config.condition, levels = levelsOf(signal, limits.size, limits.step);
  const silence = levels.filter((level) => level < limits.digital_silence).length / levels.length;
  if (silence === 1) return ["there is nothing but digital silence"];
  const seconds = signal.length / config.sample_rate, clipped = shareClipped(signal);
  const level = 20 * Math.log10(Math.max(quantile(levels, 0.95), 1e-9));
  const faults = [
    [seconds < limits.shortest, `it is ${seconds.toFixed(2)} s long, hardly a word`],
    [level < limits.least_level, `it is quiet: its loudest parts are at ${level.toFixed(0)} dB`],
    [clipped > limits.most_clipped, `${(100 * clipped).toFixed(1)}% of its samples are clipped`],
    [silence > limits.most_silence, `${(100 * silence).toFixed(0)}% of it are digital silence`],
  ];
  return faults.filter(([isSo]) => isSo).map(([, sentence]) => sentence);
}

function levelsOf(signal, size, step) {
  const levels = [];
  for (let start = 0; start === 0 || start + size <= signal.length; start += step) {
    let sum = 0;
    for (let place = start; place < Math.min(start + size, signal.length); place++) sum += signal[place] ** 2;
    levels.push(Math.sqrt(sum / size));
  }
  return levels;
}

function shareClipped(signal) {
  let peak = 0, count = 0, run = 0;
  for (const value of signal) peak = Math.max(peak, Math.abs(value));
  for (const value of signal) {
    run = Math.abs(value) >= 0.999 * peak ? run + 1 : 0;
    if (run >= 3) count++;
  }
  return peak > 0 ? count / signal.length : 0;
}

function quantile(values, share) {
  const sorted = Float64Array.from(values).sort(), place = share * (sorted.length - 1);
  const below = Math.floor(place), above = Math.ceil(place);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

// ---------------------------------------------------------------- drawing

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function answerElement(overview) {
  const order = config.labels.map((_, place) => place).sort((a, b) => overview.shares[b] - overview.shares[a]);
  const best = order[0], section = element("section", "answer"), verdict = element("p", "verdict");
  const ofWhat = overview.isMean ? `mean over ${overview.along.length} stretches` : "the whole recording";
  verdict.append(element("strong", "", config.labels[best]),
    element("span", "", `${percent(overview.shares[best])}, ${ofWhat} of ${timeText(overview.seconds)}`));
  section.append(verdict, notesElement(overview.notes), chart(overview, order));
  return section;
}

function notesElement(notes) {
  if (notes.length === 0) return element("p", "notes", "Nothing wrong was found with the recording.");
  const box = element("div", "notes wrong"), list = element("ul");
  list.append(...notes.map((note) => element("li", "", note)));
  box.append(element("p", "", "Mind the recording:"), list);
  return box;
}

function chart(overview, order) {
  const figure = element("figure", "chart");
  const about = element("span", "", `stretches of ${config.window_seconds} s`);
  figure.append(row("head", "", about, "overall"), row("wave", "", drawing(wavePath(overview.columns))));
  order.forEach((place, rank) => {
    const label = config.labels[place], share = overview.shares[place];
    const along = overview.along.map((shares) => shares[place]);
    const strip = row(rank === 0 ? "strip best" : "strip", label, drawing(stripPath(overview, along)), percent(share));
    strip.dataset.label = label;
    strip.dataset.share = share.toFixed(6);
    strip.dataset.along = along.map((value) => value.toFixed(6)).join(" ");
    figure.append(strip);
  });
  figure.append(row("axis", "", marks(overview.seconds)), row("cursor", "", element("i")));
  figure.setAttribute("role", "img");
  const summary = order.map((place) => `${config.labels[place]} ${percent(overview.shares[place])}`);
  figure.setAttribute("aria-label", summary.join(", "));
  return figure;
}

function row(kind, name, middle, share = "") {
  const line = element("div", `row ${kind}`), track = element("span", "track");
  track.append(middle);
  line.append(element("span", "name", name), track, element("span", "share", share));
  return line;
}

function drawing(path) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg"), shape = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

// The outline of the waveform, as high as its largest amplitude.
function wavePath(columns) {
  const peak = Math.max(1e-4, ...columns.flat().map(Math.abs)), step = WIDTH / columns.length, middle = HEIGHT / 2;
  const point = (value, place, sign) =>
    `${(place * step).toFixed(1)} ${(middle - value / peak * (middle - 1) + sign / 2).toFixed(1)}`;
  const over = columns.map(([, high], place) => point(high, place, -1));
  const under = columns.map(([low], place) => point(low, place, 1)).reverse();
  return `M${[...over, ...under].join(" L")}Z`;
}

// The area under a label's probability: at each time that of the stretch whose middle is nearest.
function stripPath({ middles, seconds }, along) {
  const parts = along.map((share, place) => {
    const end = place + 1 < along.length ? (middles[place] + middles[place + 1]) / 2 : seconds;
    return `V${(HEIGHT * (1 - share)).toFixed(2)}H${(WIDTH * end / seconds).toFixed(1)}`;
  });
  return `M0 ${HEIGHT}${parts.join("")}V${HEIGHT}Z`;
}

function marks(seconds) {
  const step = STEPS.find((size) => seconds / size <= MOST_MARKS) ?? STEPS.at(-1), all = document.createDocumentFragment();
  for (let time = 0; time <= 0.95 * seconds; time += step) {
    const mark = element("i", "", timeText(time));
    mark.style.left = `${100 * time / seconds}%`;
    all.append(mark);
  }
  return all;
}

const percent = (share) => `${(100 * share).toFixed(0)} %`;

function timeText(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1).replace(/\.0$/, "")} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// ---------------------------------------------------------------- what the reader does

at("file").addEventListener("change", (event) => {
  const file = event.target.files[0];
  event.target.value = ""; // so that the same one can be chosen again
  if (file) ask(file, file.name);
});
at("microphone").addEventListener("click", () => record().catch(show));
at("form").addEventListener("submit", (event) => event.preventDefault());
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("form").classList.toggle("over", kind === "dragover");
    const file = kind === "drop" && event.dataTransfer.files[0];
    if (file && !at("file").disabled) ask(file, file.name);
  });
}
start().catch((error) => {
  say("");
  show(error);
});
