/** A secret that shows itself only when asked by name: not in logs, not in `config print`, not in an inspected object. */
import { inspect } from 'node:util'
import { readSecret } from './files.ts'

const MASK = '********'

export class Secret {
  /** The file it came from; undefined when it was written in the configuration. */
  readonly file: string | undefined
  #value: string

  constructor(value: string, file?: string) {
    this.#value = value
    this.file = file
  }

  /** Throws `FileFault`. */
  static fromFile(file: string): Secret {
    return new Secret(readSecret(file), file)
  }

  reveal(): string {
    return this.#value
  }

  /** Reads its file again; the old value stays when that throws `FileFault`. Without a file there is nothing to do. */
  refresh(): void {
    if (this.file !== undefined) this.#value = readSecret(this.file)
  }

  toString(): string {
    return MASK
  }

  toJSON(): string {
    return MASK
  }

  [inspect.custom](): string {
    return MASK
  }
}
