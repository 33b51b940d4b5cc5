export interface FetchProgress {
  readonly file: string;
  readonly loaded: number;
  readonly total: number;
}
export async function fetchModel(_id: string, _options: object): Promise<string> {
  throw new Error('pending');
}
