/** The tags that could not be brought into step, as the last job of their repository left them. */
import type { RepositoryName } from '../oci/reference.ts'
import type { Queries } from './database.ts'
import { failureText } from './failure-text.ts'
import type { FailingTag } from './tracking.ts'

export async function selectFailingTags(queries: Queries, path: RepositoryName): Promise<FailingTag[]> {
  const rows = await queries
    .selectFrom('failing_tags')
    .innerJoin('tracked_repositories', 'tracked_repositories.id', 'failing_tags.repository_id')
    .select(['tag', 'digest', 'kind', 'message', 'since'])
    .where('path', '=', path)
    .orderBy('tag')
    .execute()
  return rows.map(({ tag, digest, kind, message, since }) => ({
    tag,
    digest: digest ?? undefined,
    kind,
    message,
    sinceMs: since,
  }))
}

export async function deleteFailingTags(queries: Queries, repositoryId: number): Promise<void> {
  await queries.deleteFrom('failing_tags').where('repository_id', '=', repositoryId).execute()
}

/** Each tag once. */
export async function insertFailingTags(
  queries: Queries,
  repositoryId: number,
  tags: readonly FailingTag[],
): Promise<void> {
  await queries
    .insertInto('failing_tags')
    .values(
      tags.map(({ tag, digest, kind, message, sinceMs }) => ({
        repository_id: repositoryId,
        tag,
        digest: digest ?? null,
        kind,
        message: failureText(message),
        since: sinceMs,
      })),
    )
    .execute()
}
