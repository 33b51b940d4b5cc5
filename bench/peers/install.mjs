// Installs the engines that riverrun is compared with into bench/peers/node_modules, outside the package.
//   node bench/peers/install.mjs
import { execFileSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
// Install scripts would look for compilers and GPUs: the package holds a build for every CPU.
execFileSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: folder, stdio: 'inherit' });
