// A table's item by the AWS SDK, whose endpoint and keys come from the environment.
import { DynamoDBClient, GetItemCommand } from '@aws-sdk/client-dynamodb'

const client = new DynamoDBClient()

export async function handler ({ table, id }) {
  const { Item } = await client.send(new GetItemCommand({ TableName: table, Key: { id: { S: id } } }))
  return { item: Item.item.S }
}
