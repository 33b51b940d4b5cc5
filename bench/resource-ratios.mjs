/** Ours : llama.cpp's, of memory and of the time of loading: less is better, unlike of speeds. */
export const resourceRatios = ({ bytes, loadSeconds }) => ({
  memory: bytes.ours / bytes['llama.cpp'],
  'load time': loadSeconds.ours / loadSeconds['llama.cpp'],
});
